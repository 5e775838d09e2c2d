/* SPDX-License-Identifier: MIT */
/* cfi.c - .eh_frame, as the LSB and DWARF 4 section 6.4 define it, read in place.
 *
 *     .eh_frame_hdr   sorted table: begin of a function -> its FDE
 *     FDE             the function's range, and a program of its own
 *     CIE             what many FDEs have in common: alignment factors, and the program that comes first
 *
 * The two programs, run up to an address, say for each register where the caller's value is. What they say is the
 * compiler's and the linker's, and is trusted as their code is.
 */
#include "stack/stack_internal.h"

#include <string.h>

#define REMEMBERED_MOST 4u

/* How addresses are written (DW_EH_PE_*). */
enum {
    PE_ABSOLUTE = 0x00,
    PE_ULEB = 0x01,
    PE_U16 = 0x02,
    PE_U32 = 0x03,
    PE_U64 = 0x04,
    PE_SLEB = 0x09,
    PE_S16 = 0x0a,
    PE_S32 = 0x0b,
    PE_S64 = 0x0c,
    PE_PC = 0x10,
    PE_DATA = 0x30,
    PE_INDIRECT = 0x80,
    PE_OMITTED = 0xff,
};

/* The instructions of a program (DW_CFA_*). The first three carry a number in their lower six bits. */
enum {
    CFA_ADVANCE = 0x40,
    CFA_OFFSET = 0x80,
    CFA_RESTORE = 0xc0,
    CFA_NOP = 0x00,
    CFA_SET_LOCATION = 0x01,
    CFA_ADVANCE_1 = 0x02,
    CFA_ADVANCE_2 = 0x03,
    CFA_ADVANCE_4 = 0x04,
    CFA_OFFSET_EXTENDED = 0x05,
    CFA_RESTORE_EXTENDED = 0x06,
    CFA_UNDEFINED = 0x07,
    CFA_SAME = 0x08,
    CFA_REGISTER = 0x09,
    CFA_REMEMBER = 0x0a,
    CFA_RECALL = 0x0b,
    CFA_DEFINE = 0x0c,
    CFA_DEFINE_REGISTER = 0x0d,
    CFA_DEFINE_OFFSET = 0x0e,
    CFA_DEFINE_EXPRESSION = 0x0f,
    CFA_EXPRESSION = 0x10,
    CFA_OFFSET_SIGNED = 0x11,
    CFA_DEFINE_SIGNED = 0x12,
    CFA_DEFINE_OFFSET_SIGNED = 0x13,
    CFA_VALUE_OFFSET = 0x14,
    CFA_VALUE_OFFSET_SIGNED = 0x15,
    CFA_VALUE_EXPRESSION = 0x16,
    CFA_ARGUMENTS = 0x2e,
    CFA_OFFSET_NEGATIVE = 0x2f,
};

struct program {
    const uint8_t *begin;
    const uint8_t *end;
};

struct cie {
    uint64_t code_align;
    int64_t data_align;
    uint32_t return_register;
    uint8_t encoding;
    bool augmented;
    bool signal;
    struct program program;
};

struct fde {
    struct cie cie;
    uintptr_t begin;
    uintptr_t end;
    struct program program;
};

uint64_t read_uleb(const uint8_t **at)
{
    uint64_t n = 0;
    unsigned shift = 0;
    uint8_t byte;
    do {
        byte = *(*at)++;
        n |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
        shift += 7;
    } while ((byte & 0x80) != 0);
    return n;
}

int64_t read_sleb(const uint8_t **at)
{
    uint64_t n = 0;
    unsigned shift = 0;
    uint8_t byte;
    do {
        byte = *(*at)++;
        n |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
        shift += 7;
    } while ((byte & 0x80) != 0);
    if (shift < 64 && (byte & 0x40) != 0) {
        n |= ~(uint64_t)0 << shift;
    }
    return (int64_t)n;
}

#define TAKE(type, at) (*(at) += sizeof(type), READ(type, *(at) - sizeof(type)))

static uintptr_t read_encoded(const uint8_t **at, uint8_t encoding, uintptr_t data_base)
{
    const uint8_t *here = *at;
    uintptr_t n;
    switch (encoding & 0x0f) {
    case PE_ULEB:
        n = read_uleb(at);
        break;
    case PE_U16:
        n = TAKE(uint16_t, at);
        break;
    case PE_U32:
        n = TAKE(uint32_t, at);
        break;
    case PE_SLEB:
        n = (uintptr_t)read_sleb(at);
        break;
    case PE_S16:
        n = (uintptr_t)(intptr_t)TAKE(int16_t, at);
        break;
    case PE_S32:
        n = (uintptr_t)(intptr_t)TAKE(int32_t, at);
        break;
    case PE_S64:
    case PE_U64:
        n = (uintptr_t)TAKE(uint64_t, at);
        break;
    default:
        n = TAKE(uintptr_t, at);
        break;
    }
    if (n == 0) {
        return 0;
    }
    if ((encoding & 0x70) == PE_PC) {
        n += (uintptr_t)here;
    } else if ((encoding & 0x70) == PE_DATA) {
        n += data_base;
    }
    return (encoding & PE_INDIRECT) != 0 ? READ(uintptr_t, n) : n;
}

/* ---- records ------------------------------------------------------------------------------------------------ */

/* Begins a record: its end, and in *at what follows the length. NULL: the list of records ends here. */
static const uint8_t *record_end(const uint8_t **at)
{
    uint64_t length = TAKE(uint32_t, at);
    if (length == 0xffffffff) {
        length = TAKE(uint64_t, at);
    }
    return length == 0 ? NULL : *at + length;
}

/* The letters of the augmentation that matter: z: its data have a length; R: how FDEs write addresses; P, L: a
 * language's; S: a signal handler's return. */
static void read_augmentation(struct cie *cie, const char *letters, const uint8_t **at)
{
    for (; *letters != '\0'; letters++) {
        switch (*letters) {
        case 'R':
            cie->encoding = *(*at)++;
            break;
        case 'P': {
            uint8_t encoding = *(*at)++;
            read_encoded(at, encoding & 0x7f, 0);
            break;
        }
        case 'L':
            (*at)++;
            break;
        case 'S':
            cie->signal = true;
            break;
        default:
            break;
        }
    }
}

static bool cie_read(const uint8_t *at, struct cie *cie)
{
    const uint8_t *end = record_end(&at);
    if (end == NULL || TAKE(uint32_t, &at) != 0) {
        return false;
    }
    uint8_t version = *at++;
    const char *letters = (const char *)at;
    at += strlen(letters) + 1;
    *cie = (struct cie){.encoding = PE_ABSOLUTE, .augmented = letters[0] == 'z'};
    cie->code_align = read_uleb(&at);
    cie->data_align = read_sleb(&at);
    cie->return_register = version == 1 ? *at++ : (uint32_t)read_uleb(&at);
    if (cie->augmented) {
        uint64_t bytes = read_uleb(&at);
        const uint8_t *behind = at + bytes;
        read_augmentation(cie, letters + 1, &at);
        at = behind;
    } else if (letters[0] != '\0') {
        return false;
    }
    cie->program = (struct program){at, end};
    return true;
}

static bool fde_read(const uint8_t *at, struct fde *fde)
{
    const uint8_t *end = record_end(&at);
    if (end == NULL) {
        return false;
    }
    const uint8_t *here = at;
    uint32_t back = TAKE(uint32_t, &at);
    if (back == 0 || !cie_read(here - back, &fde->cie)) {
        return false;
    }
    fde->begin = read_encoded(&at, fde->cie.encoding, 0);
    fde->end = fde->begin + read_encoded(&at, fde->cie.encoding & 0x0f, 0);
    if (fde->cie.augmented) {
        uint64_t bytes = read_uleb(&at);
        at += bytes;
    }
    fde->program = (struct program){at, end};
    return true;
}

/* The table's rows: two 32-bit distances from the header, of a function and of its FDE. */
struct row {
    int32_t begin;
    int32_t fde;
};

static const uint8_t *find_in_table(const uint8_t *header, const struct row *rows, size_t n, uintptr_t pc)
{
    size_t low = 0;
    size_t high = n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if ((uintptr_t)header + (uintptr_t)(intptr_t)READ(int32_t, &rows[middle].begin) <= pc) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? NULL : header + READ(int32_t, &rows[low - 1].fde);
}

static bool find_fde(const uint8_t *header, uintptr_t pc, struct fde *fde)
{
    const uint8_t *at = header + 4;
    if (header[0] != 1 || header[1] == PE_OMITTED || header[2] == PE_OMITTED || header[3] != (PE_DATA | PE_S32)) {
        return false;
    }
    read_encoded(&at, header[1], (uintptr_t)header); /* .eh_frame itself */
    size_t n = read_encoded(&at, header[2], (uintptr_t)header);
    const uint8_t *found = find_in_table(header, (const struct row *)(const void *)at, n, pc);
    return found != NULL && fde_read(found, fde) && pc >= fde->begin && pc < fde->end;
}

/* ---- programs ----------------------------------------------------------------------------------------------- */

struct machine {
    const struct cie *cie;
    struct frame_rules *rules;
    struct frame_rules first; /* as the CIE's program left them */
    struct frame_rules remembered[REMEMBERED_MOST];
    size_t n_remembered;
    uintptr_t location;
};

/* Registers that the machine's calls don't keep have numbers beyond those that are followed. */
static void set_rule(struct machine *m, uint64_t number, enum rule_kind kind, intptr_t value, const uint8_t *expression)
{
    if (number < OS_REGISTERS) {
        m->rules->of[number] = (struct rule){kind, value, expression};
    }
}

static void restore_rule(struct machine *m, uint64_t number)
{
    if (number < OS_REGISTERS) {
        m->rules->of[number] = m->first.of[number];
    }
}

static const uint8_t *take_expression(const uint8_t **at)
{
    const uint8_t *expression = *at;
    uint64_t bytes = read_uleb(at);
    *at += bytes;
    return expression;
}

static void define_cfa(struct machine *m, uint64_t number, intptr_t offset)
{
    m->rules->cfa_register = (uint32_t)number;
    m->rules->cfa_offset = offset;
    m->rules->cfa_expression = NULL;
}

static bool run_cfa(struct machine *m, uint8_t code, const uint8_t **at)
{
    uint64_t number;
    switch (code) {
    case CFA_DEFINE:
        number = read_uleb(at);
        define_cfa(m, number, (intptr_t)read_uleb(at));
        return true;
    case CFA_DEFINE_SIGNED:
        number = read_uleb(at);
        define_cfa(m, number, (intptr_t)(read_sleb(at) * m->cie->data_align));
        return true;
    case CFA_DEFINE_REGISTER:
        m->rules->cfa_register = (uint32_t)read_uleb(at);
        return true;
    case CFA_DEFINE_OFFSET:
        m->rules->cfa_offset = (intptr_t)read_uleb(at);
        return true;
    case CFA_DEFINE_OFFSET_SIGNED:
        m->rules->cfa_offset = (intptr_t)(read_sleb(at) * m->cie->data_align);
        return true;
    case CFA_DEFINE_EXPRESSION:
        m->rules->cfa_expression = take_expression(at);
        return true;
    default:
        return false;
    }
}

static bool run_rule(struct machine *m, uint8_t code, const uint8_t **at)
{
    uint64_t number = read_uleb(at);
    switch (code) {
    case CFA_OFFSET_EXTENDED:
        set_rule(m, number, RULE_AT, (intptr_t)((int64_t)read_uleb(at) * m->cie->data_align), NULL);
        return true;
    case CFA_OFFSET_SIGNED:
        set_rule(m, number, RULE_AT, (intptr_t)(read_sleb(at) * m->cie->data_align), NULL);
        return true;
    case CFA_OFFSET_NEGATIVE:
        set_rule(m, number, RULE_AT, -(intptr_t)((int64_t)read_uleb(at) * m->cie->data_align), NULL);
        return true;
    case CFA_VALUE_OFFSET:
        set_rule(m, number, RULE_IS, (intptr_t)((int64_t)read_uleb(at) * m->cie->data_align), NULL);
        return true;
    case CFA_VALUE_OFFSET_SIGNED:
        set_rule(m, number, RULE_IS, (intptr_t)(read_sleb(at) * m->cie->data_align), NULL);
        return true;
    case CFA_REGISTER:
        set_rule(m, number, RULE_REGISTER, (intptr_t)read_uleb(at), NULL);
        return true;
    case CFA_EXPRESSION:
        set_rule(m, number, RULE_AT_EXPR, 0, take_expression(at));
        return true;
    case CFA_VALUE_EXPRESSION:
        set_rule(m, number, RULE_IS_EXPR, 0, take_expression(at));
        return true;
    case CFA_RESTORE_EXTENDED:
        restore_rule(m, number);
        return true;
    case CFA_UNDEFINED:
        set_rule(m, number, RULE_UNDEFINED, 0, NULL);
        return true;
    case CFA_SAME:
        set_rule(m, number, RULE_SAME, 0, NULL);
        return true;
    case CFA_ARGUMENTS:
        return true;
    default:
        return false;
    }
}

/* How far an instruction moves on; 0 when it is none of that kind. */
static bool run_advance(struct machine *m, uint8_t code, const uint8_t **at)
{
    switch (code) {
    case CFA_SET_LOCATION:
        m->location = read_encoded(at, m->cie->encoding, 0);
        return true;
    case CFA_ADVANCE_1:
        m->location += TAKE(uint8_t, at) * m->cie->code_align;
        return true;
    case CFA_ADVANCE_2:
        m->location += TAKE(uint16_t, at) * m->cie->code_align;
        return true;
    case CFA_ADVANCE_4:
        m->location += TAKE(uint32_t, at) * m->cie->code_align;
        return true;
    default:
        return false;
    }
}

static bool run_memory(struct machine *m, uint8_t code)
{
    if (code == CFA_REMEMBER) {
        if (m->n_remembered == REMEMBERED_MOST) {
            return false;
        }
        m->remembered[m->n_remembered++] = *m->rules;
        return true;
    }
    if (code != CFA_RECALL || m->n_remembered == 0) {
        return false;
    }
    *m->rules = m->remembered[--m->n_remembered];
    return true;
}

/* One instruction; false when it is unknown. */
static bool run_one(struct machine *m, const uint8_t **at)
{
    uint8_t code = *(*at)++;
    uint8_t low = code & 0x3f;
    switch (code & 0xc0) {
    case CFA_ADVANCE:
        m->location += low * m->cie->code_align;
        return true;
    case CFA_OFFSET:
        set_rule(m, low, RULE_AT, (intptr_t)((int64_t)read_uleb(at) * m->cie->data_align), NULL);
        return true;
    case CFA_RESTORE:
        restore_rule(m, low);
        return true;
    default:
        break;
    }
    if (code == CFA_NOP || run_advance(m, code, at) || run_cfa(m, code, at)) {
        return true;
    }
    return code == CFA_REMEMBER || code == CFA_RECALL ? run_memory(m, code) : run_rule(m, code, at);
}

/* Runs until the program ends or describes what lies behind pc. */
static bool run(struct machine *m, const struct program *program, uintptr_t pc)
{
    const uint8_t *at = program->begin;
    while (at < program->end && m->location <= pc) {
        if (!run_one(m, &at)) {
            return false;
        }
    }
    return true;
}

bool cfi_find(const void *unwind, uintptr_t pc, struct frame_rules *rules)
{
    struct fde fde;
    if (!find_fde(unwind, pc, &fde)) {
        return false;
    }
    struct machine m;
    m.cie = &fde.cie;
    m.rules = rules;
    m.n_remembered = 0;
    m.location = 0;
    memset(rules, 0, sizeof *rules); /* RULE_SAME */
    rules->return_register = fde.cie.return_register;
    rules->signal = fde.cie.signal;
    if (!run(&m, &fde.cie.program, UINTPTR_MAX)) {
        return false;
    }
    m.first = *rules;
    m.location = fde.begin;
    return run(&m, &fde.program, pc) && rules->return_register < OS_REGISTERS;
}
