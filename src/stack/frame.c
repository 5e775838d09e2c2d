/* SPDX-License-Identifier: MIT */
/* frame.c - from a frame to its caller's, until the stack ends.
 *
 *     stack pointer -> | locals | saved registers | return address | <- CFA: the caller's stack pointer
 *
 * 1 Quick   what is remembered of the address says: the CFA is the stack or the frame pointer and a distance, the frame
 *           pointer is saved at another one or was left alone. Other registers are lost track of.
 * 2 Exact   .eh_frame, each time, with all registers: for signal frames, and for what doesn't fit one word.
 *           Where that needs a register that was lost track of, the walk begins anew with this way alone.
 *           A signal handler's return whose libc says nothing of it is known by its code, as the kernel knows it.
 * 3 Chain   nothing is said of the address: the frame pointer, if it could be one, leads to the caller's.
 *
 * A step must lead up the stack; what doesn't, ends it. What is read is read only after the system has said that it is
 * there; a thread remembers for which part of its stack that is so.
 */
#include "base/atomic.h"
#include "os/os.h"
#include "stack/stack_internal.h"

#include <errno.h>
#include <string.h>

#define FP OS_REGISTER_FP
#define SP OS_REGISTER_SP
#define PC OS_REGISTER_PC

#define EXPRESSION_DEPTH 16u
#define CACHE_SLOTS 8192u

struct cursor {
    struct os_registers registers;
    uint64_t known;   /* a bit a register that holds the frame's own value */
    bool interrupted; /* pc is where the frame was stopped, not where it will go on */
    bool exact;       /* the quick way is not to be taken */
};

/* ---- the stack's memory ------------------------------------------------------------------------------------- */

/* The pages of the present stack that are known to be there. Another stack begins it anew. */
static __thread uintptr_t known_begin;
static __thread uintptr_t known_end;

static bool extend_known(uintptr_t address)
{
    uintptr_t page = round_down(address, os_page_bytes());
    if (!os_readable((const void *)page)) {
        return false;
    }
    if (page == known_end && known_end != 0) {
        known_end += os_page_bytes();
    } else if (page + os_page_bytes() == known_begin) {
        known_begin = page;
    } else {
        known_begin = page;
        known_end = page + os_page_bytes();
    }
    return true;
}

/* Not by the sanitizers, to whom other frames' variables are none of our business. Volatile: of any type. */
__attribute__((no_sanitize("address", "thread"))) static inline uintptr_t word_at(uintptr_t address)
{
    return *(const volatile uintptr_t *)address;
}

/* Not by the address sanitizer, to whom the spaces between other frames' variables are out of bounds. */
__attribute__((no_sanitize("address", "thread"))) static bool read_word(uintptr_t address, uintptr_t *out)
{
    if (address % sizeof *out != 0) {
        return false; /* no word of a stack */
    }
    if (UNLIKELY(address < known_begin || address >= known_end) && !extend_known(address)) {
        return false;
    }
    /* Volatile: it may be another frame's local variable of any type. */
    *out = *(const volatile uintptr_t *)address;
    return true;
}

/* ---- expressions -------------------------------------------------------------------------------------------- */

enum {
    OP_DEREF = 0x06,
    OP_CONST1U = 0x08,
    OP_CONST1S = 0x09,
    OP_CONST2U = 0x0a,
    OP_CONST2S = 0x0b,
    OP_CONST4U = 0x0c,
    OP_CONST4S = 0x0d,
    OP_CONST8U = 0x0e,
    OP_CONST8S = 0x0f,
    OP_CONSTU = 0x10,
    OP_CONSTS = 0x11,
    OP_DUP = 0x12,
    OP_DROP = 0x13,
    OP_AND = 0x1a,
    OP_MINUS = 0x1c,
    OP_MUL = 0x1e,
    OP_OR = 0x21,
    OP_PLUS = 0x22,
    OP_PLUS_CONST = 0x23,
    OP_SHL = 0x24,
    OP_SHR = 0x25,
    OP_EQ = 0x29,
    OP_GE = 0x2a,
    OP_GT = 0x2b,
    OP_LE = 0x2c,
    OP_LT = 0x2d,
    OP_NE = 0x2e,
    OP_LIT0 = 0x30,
    OP_BREG0 = 0x70,
};

struct evaluation {
    const struct cursor *cursor;
    uintptr_t stack[EXPRESSION_DEPTH];
    size_t depth;
};

static bool push(struct evaluation *e, uintptr_t value)
{
    if (e->depth == EXPRESSION_DEPTH) {
        return false;
    }
    e->stack[e->depth++] = value;
    return true;
}

static bool register_of(const struct cursor *cursor, uint64_t number, uintptr_t *out)
{
    if (number >= OS_REGISTERS || (cursor->known >> number & 1) == 0) {
        return false;
    }
    *out = cursor->registers.of[number];
    return true;
}

/* A constant that follows its instruction; false when op is none of those. */
static bool push_constant(struct evaluation *e, uint8_t op, const uint8_t **at)
{
    static const uint8_t widths[] = {1, 1, 2, 2, 4, 4, 8, 8};
    if (op >= OP_LIT0 && op < OP_LIT0 + 32) {
        return push(e, op - OP_LIT0);
    }
    if (op == OP_CONSTU) {
        return push(e, read_uleb(at));
    }
    if (op == OP_CONSTS) {
        return push(e, (uintptr_t)read_sleb(at));
    }
    if (op < OP_CONST1U || op > OP_CONST8S) {
        return false;
    }
    const uint8_t *here = *at;
    *at += widths[op - OP_CONST1U];
    switch (op) {
    case OP_CONST1U:
        return push(e, READ(uint8_t, here));
    case OP_CONST1S:
        return push(e, (uintptr_t)(intptr_t)READ(int8_t, here));
    case OP_CONST2U:
        return push(e, READ(uint16_t, here));
    case OP_CONST2S:
        return push(e, (uintptr_t)(intptr_t)READ(int16_t, here));
    case OP_CONST4U:
        return push(e, READ(uint32_t, here));
    case OP_CONST4S:
        return push(e, (uintptr_t)(intptr_t)READ(int32_t, here));
    default:
        return push(e, (uintptr_t)READ(uint64_t, here));
    }
}

static bool apply_two(struct evaluation *e, uint8_t op)
{
    if (e->depth < 2) {
        return false;
    }
    uintptr_t b = e->stack[--e->depth];
    uintptr_t *a = &e->stack[e->depth - 1];
    switch (op) {
    case OP_AND:
        *a &= b;
        return true;
    case OP_OR:
        *a |= b;
        return true;
    case OP_PLUS:
        *a += b;
        return true;
    case OP_MINUS:
        *a -= b;
        return true;
    case OP_MUL:
        *a *= b;
        return true;
    case OP_SHL:
        *a = b < 64 ? *a << b : 0;
        return true;
    case OP_SHR:
        *a = b < 64 ? *a >> b : 0;
        return true;
    case OP_EQ:
        *a = *a == b;
        return true;
    case OP_NE:
        *a = *a != b;
        return true;
    case OP_GE:
        *a = (intptr_t)*a >= (intptr_t)b;
        return true;
    case OP_GT:
        *a = (intptr_t)*a > (intptr_t)b;
        return true;
    case OP_LE:
        *a = (intptr_t)*a <= (intptr_t)b;
        return true;
    case OP_LT:
        *a = (intptr_t)*a < (intptr_t)b;
        return true;
    default:
        return false;
    }
}

static bool apply(struct evaluation *e, uint8_t op, const uint8_t **at)
{
    uintptr_t value;
    if (op >= OP_BREG0 && op < OP_BREG0 + 32) {
        return register_of(e->cursor, op - OP_BREG0, &value) && push(e, value + (uintptr_t)read_sleb(at));
    }
    if (push_constant(e, op, at)) {
        return true;
    }
    if (e->depth == 0) {
        return false;
    }
    switch (op) {
    case OP_DEREF:
        return read_word(e->stack[e->depth - 1], &e->stack[e->depth - 1]);
    case OP_DUP:
        return push(e, e->stack[e->depth - 1]);
    case OP_DROP:
        e->depth--;
        return true;
    case OP_PLUS_CONST:
        e->stack[e->depth - 1] += read_uleb(at);
        return true;
    default:
        return apply_two(e, op);
    }
}

/* Those that compilers, assemblers and linkers write in .eh_frame. start: what lies on the stack already. */
static bool evaluate(const struct cursor *cursor, const uint8_t *expression, const uintptr_t *start, uintptr_t *out)
{
    struct evaluation e = {.cursor = cursor};
    const uint8_t *at = expression;
    uint64_t bytes = read_uleb(&at);
    const uint8_t *end = at + bytes;
    if (start != NULL) {
        push(&e, *start);
    }
    while (at < end) {
        uint8_t op = *at++;
        if (!apply(&e, op, &at)) {
            return false;
        }
    }
    if (e.depth == 0) {
        return false;
    }
    *out = e.stack[e.depth - 1];
    return true;
}

/* ---- 2 exact ------------------------------------------------------------------------------------------------ */

static bool find_cfa(const struct cursor *cursor, const struct frame_rules *rules, uintptr_t *cfa)
{
    if (rules->cfa_expression != NULL) {
        return evaluate(cursor, rules->cfa_expression, NULL, cfa);
    }
    if (!register_of(cursor, rules->cfa_register, cfa)) {
        return false;
    }
    *cfa += (uintptr_t)rules->cfa_offset;
    return true;
}

/* The caller's value of a register; false when it is lost. */
static bool apply_rule(const struct cursor *cursor, const struct rule *rule, size_t number, uintptr_t cfa,
                       uintptr_t *out)
{
    uintptr_t at;
    switch (rule->kind) {
    case RULE_SAME:
        return register_of(cursor, number, out);
    case RULE_AT:
        return read_word(cfa + (uintptr_t)rule->value, out);
    case RULE_IS:
        *out = cfa + (uintptr_t)rule->value;
        return true;
    case RULE_REGISTER:
        return register_of(cursor, (uint64_t)rule->value, out);
    case RULE_AT_EXPR:
        return evaluate(cursor, rule->expression, &cfa, &at) && read_word(at, out);
    case RULE_IS_EXPR:
        return evaluate(cursor, rule->expression, &cfa, out);
    default:
        return false;
    }
}

static bool step_exact(struct cursor *cursor, const struct frame_rules *rules)
{
    struct cursor caller = {.interrupted = rules->signal, .exact = cursor->exact};
    uintptr_t cfa;
    if (!find_cfa(cursor, rules, &cfa)) {
        return false;
    }
    for (size_t i = 0; i < OS_REGISTERS; i++) {
        if (apply_rule(cursor, &rules->of[i], i, cfa, &caller.registers.of[i])) {
            caller.known |= (uint64_t)1 << i;
        }
    }
    if (rules->of[SP].kind == RULE_SAME) { /* unless said otherwise, it is the CFA */
        caller.registers.of[SP] = cfa;
        caller.known |= (uint64_t)1 << SP;
    }
    const struct rule *of_pc = &rules->of[rules->return_register];
    if (of_pc->kind == RULE_UNDEFINED ||
        !apply_rule(cursor, of_pc, rules->return_register, cfa, &caller.registers.of[PC])) {
        return false;
    }
    caller.known |= (uint64_t)1 << PC;
    *cursor = caller;
    return true;
}

/* ---- 1 quick ------------------------------------------------------------------------------------------------ */

/* What is known of an address, in one word. CFA = register + cfa_words; the frame pointer at CFA - fp_words. */
enum form { FORM_NONE, FORM_QUICK, FORM_EXACT, FORM_CHAIN, FORM_END };
#define FORM_SHIFT 0
#define BY_FP_SHIFT 3
#define FP_WORDS_SHIFT 4
#define FP_WORDS_BITS 20
#define CFA_WORDS_SHIFT 24
#define WORDS_MOST 0xfffff

/* Written by whoever comes first; a slot whose two words don't belong together reads as another address's. Relaxed: a
 * slot proves itself. */
static struct {
    _Atomic uintptr_t key; /* pc ^ what */
    _Atomic uintptr_t what;
} cache[CACHE_SLOTS];

void *frame_statics(size_t *bytes)
{
    *bytes = sizeof cache;
    return cache;
}

static size_t slot_of(uintptr_t pc)
{
    return (size_t)((uint64_t)pc * 0x9e3779b97f4a7c15u >> 51) % CACHE_SLOTS;
}

static bool fits_words(intptr_t bytes)
{
    return bytes >= 0 && bytes % (intptr_t)sizeof(uintptr_t) == 0 && bytes / (intptr_t)sizeof(uintptr_t) <= WORDS_MOST;
}

/* Only x86-64's frames are of one form: elsewhere the return address may be in a register. */
static uintptr_t boil_down(const struct frame_rules *rules)
{
    const struct rule *of_fp = &rules->of[FP];
    const struct rule *of_pc = &rules->of[PC];
    if (rules->return_register == PC && of_pc->kind == RULE_UNDEFINED) {
        return FORM_END;
    }
    bool by_fp = rules->cfa_register == FP;
    bool saved = of_fp->kind == RULE_AT;
    if (rules->signal || rules->cfa_expression != NULL || (!by_fp && rules->cfa_register != SP) ||
        !fits_words(rules->cfa_offset) || rules->return_register != PC || of_pc->kind != RULE_AT ||
        of_pc->value != -(intptr_t)sizeof(uintptr_t) || rules->of[SP].kind != RULE_SAME ||
        (!saved && of_fp->kind != RULE_SAME) || (saved && !fits_words(-of_fp->value))) {
        return FORM_EXACT;
    }
    uintptr_t fp_words = saved ? (uintptr_t)-of_fp->value / sizeof(uintptr_t) : 0;
    uintptr_t cfa_words = (uintptr_t)rules->cfa_offset / sizeof(uintptr_t);
    return FORM_QUICK | (uintptr_t)by_fp << BY_FP_SHIFT | fp_words << FP_WORDS_SHIFT | cfa_words << CFA_WORDS_SHIFT;
}

static bool find_rules(uintptr_t pc, struct frame_rules *rules)
{
    const void *unwind = module_unwind(pc);
    return unwind != NULL && cfi_find(unwind, pc, rules);
}

static COLD uintptr_t learn(uintptr_t pc)
{
    struct frame_rules rules;
    uintptr_t what = find_rules(pc, &rules) ? boil_down(&rules) : FORM_CHAIN;
    size_t i = slot_of(pc);
    store_relaxed(&cache[i].key, pc ^ what);
    store_relaxed(&cache[i].what, what);
    return what;
}

static uintptr_t what_is_known(uintptr_t pc)
{
    size_t i = slot_of(pc);
    uintptr_t what = load_relaxed(&cache[i].what);
    return LIKELY((load_relaxed(&cache[i].key) ^ what) == pc) && what != FORM_NONE ? what : learn(pc);
}

/* Registers that calls keep, other than the two, aren't followed from here on. */
#define KNOWN_QUICK ((uint64_t)1 << FP | (uint64_t)1 << SP | (uint64_t)1 << PC)

static bool step_quick(struct cursor *cursor, uintptr_t what)
{
    uintptr_t *of = cursor->registers.of;
    uintptr_t cfa = of[(what >> BY_FP_SHIFT & 1) != 0 ? FP : SP] + (what >> CFA_WORDS_SHIFT) * sizeof(uintptr_t);
    uintptr_t fp_words = what >> FP_WORDS_SHIFT & WORDS_MOST;
    if (cfa <= of[SP] || !read_word(cfa - sizeof(uintptr_t), &of[PC]) ||
        (fp_words != 0 && !read_word(cfa - fp_words * sizeof(uintptr_t), &of[FP]))) {
        return false;
    }
    of[SP] = cfa;
    cursor->known &= KNOWN_QUICK;
    cursor->interrupted = false;
    return true;
}

/* ---- 3 chain ------------------------------------------------------------------------------------------------ */

/* A frame pointer leads to the caller's, and to the return address behind that. */
static bool step_chain(struct cursor *cursor)
{
    uintptr_t *of = cursor->registers.of;
    uintptr_t fp = of[FP];
    uintptr_t callers_fp;
    if (fp < of[SP] || !read_word(fp, &callers_fp) || !read_word(fp + sizeof(uintptr_t), &of[PC])) {
        return false;
    }
    of[FP] = callers_fp;
    of[SP] = fp + 2 * sizeof(uintptr_t);
    cursor->known &= KNOWN_QUICK;
    cursor->interrupted = false;
    return true;
}

/* ---- the way out of a signal handler ------------------------------------------------------------------------- */

#if defined(__x86_64__) && defined(__linux__)
/* What glibc's tables say of it, for libcs without tables: the context lies on the stack. */
static bool step_return(struct cursor *cursor)
{
    static const uint8_t code[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05}; /* mov $15, %rax; syscall */
    static const uint8_t places[] = {144, 136, 152, 128, 112, 104, 120, 160, 40, 48, 56, 64, 72, 80, 88, 96, 168};
    uintptr_t pc = cursor->registers.of[PC];
    uintptr_t sp = cursor->registers.of[SP];
    struct cursor caller = {.known = ~(uint64_t)0, .interrupted = true, .exact = cursor->exact};
    if (!os_readable((const void *)pc) || !os_readable((const void *)(pc + sizeof code - 1)) ||
        memcmp((const void *)pc, code, sizeof code) != 0) {
        return false;
    }
    for (size_t i = 0; i < OS_REGISTERS; i++) {
        if (!read_word(sp + places[i], &caller.registers.of[i])) {
            return false;
        }
    }
    *cursor = caller;
    return true;
}
#else
static bool step_return(struct cursor *cursor)
{
    (void)cursor;
    return false;
}
#endif

/* ---- walking ------------------------------------------------------------------------------------------------ */

static bool step_by_rules(struct cursor *cursor, uintptr_t pc)
{
    struct frame_rules rules;
    return find_rules(pc, &rules) && step_exact(cursor, &rules);
}

static bool step(struct cursor *cursor)
{
    /* A call may be its function's last instruction: what returns there belongs to the byte before. */
    uintptr_t pc = cursor->registers.of[PC] - (cursor->interrupted ? 0 : 1);
    uintptr_t sp = cursor->registers.of[SP];
    uintptr_t what = what_is_known(pc);
    bool went;
    switch (what & 7) {
    case FORM_QUICK:
        went = cursor->exact ? step_by_rules(cursor, pc) : step_quick(cursor, what);
        break;
    case FORM_EXACT:
        went = step_by_rules(cursor, pc);
        break;
    case FORM_CHAIN:
        went = step_return(cursor) || step_chain(cursor);
        break;
    default:
        return false;
    }
    /* A handler on a stack of its own interrupted another: there alone the way may lead down. */
    return went && cursor->registers.of[PC] > 4095 && (cursor->registers.of[SP] > sp || cursor->interrupted);
}

/* 1 Quick, as long as nothing else is needed: what most of a stack consists of. */
static size_t walk_quickly(struct cursor *cursor, uintptr_t *pcs, size_t n)
{
    uintptr_t *of = cursor->registers.of;
    uintptr_t begin = known_begin;
    uintptr_t end = known_end;
    uintptr_t pc = of[PC];
    uintptr_t sp = of[SP];
    uintptr_t fp = of[FP];
    size_t found = 0;
    while (found + 1 < n) {
        size_t i = slot_of(pc - 1);
        uintptr_t what = load_relaxed(&cache[i].what);
        if ((load_relaxed(&cache[i].key) ^ what) != pc - 1 || (what & 7) != FORM_QUICK) {
            break;
        }
        uintptr_t cfa = ((what >> BY_FP_SHIFT & 1) != 0 ? fp : sp) + (what >> CFA_WORDS_SHIFT) * sizeof(uintptr_t);
        uintptr_t fp_bytes = (what >> FP_WORDS_SHIFT & WORDS_MOST) * sizeof(uintptr_t);
        uintptr_t lowest = cfa - (fp_bytes == 0 ? sizeof(uintptr_t) : fp_bytes);
        if (cfa <= sp || cfa > end || lowest < begin || cfa % sizeof(uintptr_t) != 0) {
            break;
        }
        pcs[found++] = pc;
        pc = word_at(cfa - sizeof(uintptr_t));
        fp = fp_bytes != 0 ? word_at(cfa - fp_bytes) : fp;
        sp = cfa;
    }
    if (found != 0) {
        of[PC] = pc;
        of[SP] = sp;
        of[FP] = fp;
        cursor->known &= KNOWN_QUICK;
        cursor->interrupted = false;
    }
    return found;
}

static size_t walk_on(struct cursor *cursor, uintptr_t *pcs, size_t n)
{
    size_t found = 0;
    do {
        if (!cursor->exact && !cursor->interrupted) {
            found += walk_quickly(cursor, pcs + found, n - found);
        }
        pcs[found++] = cursor->registers.of[PC];
    } while (found < n && step(cursor));
    return found;
}

static bool ends_at_exact(const struct cursor *cursor)
{
    return (what_is_known(cursor->registers.of[PC] - (cursor->interrupted ? 0 : 1)) & 7) == FORM_EXACT;
}

static size_t walk(struct cursor *cursor, uintptr_t *pcs, size_t n)
{
    int saved = errno;
    uintptr_t known[] = {known_begin, known_end};
    struct cursor begin = *cursor;
    size_t found = walk_on(cursor, pcs, n);
    if (found < n && !cursor->exact && ends_at_exact(cursor)) {
        begin.exact = true;
        found = walk_on(&begin, pcs, n);
    }
    if (known[0] != 0 && (known_end <= known[0] || known_begin >= known[1])) {
        known_begin = known[0]; /* a handler on a stack of its own leaves what it interrupted as it was */
        known_end = known[1];
    }
    errno = saved;
    return found;
}

size_t stack_capture_from(const struct os_registers *registers, uintptr_t *pcs, size_t n)
{
    struct cursor cursor = {.registers = *registers, .known = ~(uint64_t)0, .interrupted = true};
    return n == 0 ? 0 : walk(&cursor, pcs, n);
}

#if defined(__x86_64__)
/* From the registers as they are at this instant; its own frame is left behind. */
NOINLINE size_t stack_capture(uintptr_t *pcs, size_t n)
{
    struct cursor cursor = {.interrupted = true};
    uintptr_t *of = cursor.registers.of;
    __asm__ volatile("leaq 0(%%rip), %0\n\t"
                     "movq %%rsp, %1\n\t"
                     "movq %%rbp, %2\n\t"
                     "movq %%rbx, %3\n\t"
                     "movq %%r12, %4\n\t"
                     "movq %%r13, %5\n\t"
                     "movq %%r14, %6\n\t"
                     "movq %%r15, %7"
                     : "=&r"(of[PC]), "=m"(of[SP]), "=m"(of[FP]), "=m"(of[3]), "=m"(of[12]), "=m"(of[13]), "=m"(of[14]),
                       "=m"(of[15]));
    cursor.known = (uint64_t)0xf0c8 | (uint64_t)1 << PC; /* those, and no other */
    return n != 0 && step(&cursor) ? walk(&cursor, pcs, n) : 0;
}
#else
NOINLINE size_t stack_capture(uintptr_t *pcs, size_t n)
{
    struct cursor cursor = {.known = KNOWN_QUICK};
    uintptr_t fp = (uintptr_t)__builtin_frame_address(0);
    cursor.registers.of[FP] = fp;
    cursor.registers.of[SP] = fp;
    return n != 0 && step_chain(&cursor) ? walk(&cursor, pcs, n) : 0;
}
#endif
