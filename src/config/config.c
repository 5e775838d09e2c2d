/* SPDX-License-Identifier: MIT */
/* config.c - see config.h. */
#include "config/config.h"

#include "os/os.h"

#include <allot/root.h>
#include <string.h>

#define LONGEST_NAME 20  /* of an option or a word */
#define LONGEST_SHOWN 40 /* of what the user wrote, in a complaint */
#define LONGEST_TEXT 1024

_Atomic int64_t config_values[OPT_COUNT] = {
#define OPTION(id, kind, initial, least, most, unit, help) [OPT_##id] = (int64_t)(initial),
#include "config/options.def"
#undef OPTION
};

static const struct option_row rows[OPT_COUNT] = {
#define OPTION(id, kind, initial, least, most, unit, help)                                                             \
    [OPT_##id] = {#id, OPTION_##kind, (int64_t)(initial), (int64_t)(least), (int64_t)(most), unit, help},
#include "config/options.def"
#undef OPTION
};

#define OPTION(id, kind, initial, least, most, unit, help)                                                             \
    _Static_assert((int64_t)(least) <= (int64_t)(initial) && (int64_t)(initial) <= (int64_t)(most),                    \
                   #id ": the default is out of bounds");                                                              \
    _Static_assert(sizeof #id <= LONGEST_NAME + 1, #id ": the name is too long");
#include "config/options.def"
#undef OPTION

static struct {
    _Atomic char texts[CONFIG_TEXTS_MOST]; /* written by each parser alike; read after done. Relaxed */
    _Atomic bool spoken;                   /* somebody has begun to parse, and is the one who complains */
    _Atomic bool done;                     /* the values are stored; O17 */
} config;

const struct option_row *option_row(enum option_id id)
{
    return &rows[id];
}

bool option_set(enum option_id id, int64_t value)
{
    config_init(); /* so that the environment doesn't overrule the program later */
    if (value < rows[id].least || value > rows[id].most) {
        return false;
    }
    store_relaxed(&config_values[id], value);
    return true;
}

const char *option_text(enum option_id id, char *buffer, size_t n)
{
    size_t at = (size_t)option(id);
    size_t length = 0;
    for (; at != 0 && length + 1 < n; length++) {
        buffer[length] = load_relaxed(&config.texts[at - 1 + length]);
        if (buffer[length] == '\0') {
            return buffer;
        }
    }
    buffer[length] = '\0';
    return buffer;
}

/* ---- words of a list a|b|c ---------------------------------------------------------------------------------- */

/* A piece of text that isn't ended by a NUL. */
struct piece {
    const char *begin;
    size_t length;
};

/* The first piece of s up to separator. Pieces are told apart by begin, the list's end by an empty rest. */
static struct piece piece_until(const char *s, char separator)
{
    size_t length = 0;
    while (s[length] != '\0' && s[length] != separator) {
        length++;
    }
    return (struct piece){s, length};
}

static struct piece word_at(const char *words, int64_t index)
{
    struct piece word = piece_until(words, '|');
    for (; index > 0 && word.begin[word.length] != '\0'; index--) {
        word = piece_until(word.begin + word.length + 1, '|');
    }
    return word;
}

static bool piece_is(struct piece piece, struct piece other)
{
    return piece.length == other.length && memcmp(piece.begin, other.begin, piece.length) == 0;
}

static bool piece_equals(struct piece piece, const char *s)
{
    return piece_is(piece, (struct piece){s, strlen(s)});
}

/* Edits (a character more, less, or another) that turn one into the other. Only the first characters of a long piece
 * count: what is that far off is no spelling mistake. */
static size_t distance(struct piece wrong, struct piece right)
{
    size_t edits[2][LONGEST_NAME + 1]; /* to the beginnings of right: before and with the present letter of wrong */
    size_t length = size_min(wrong.length, 2 * LONGEST_NAME);
    for (size_t j = 0; j <= right.length; j++) {
        edits[0][j] = j;
    }
    for (size_t i = 1; i <= length; i++) {
        const size_t *before = edits[(i - 1) % 2];
        size_t *now = edits[i % 2];
        now[0] = i;
        for (size_t j = 1; j <= right.length; j++) {
            bool same = wrong.begin[i - 1] == right.begin[j - 1];
            now[j] = size_min(size_min(before[j], now[j - 1]) + 1, before[j - 1] + !same);
        }
    }
    return edits[length % 2][right.length];
}

static enum option_id nearest_option(struct piece name)
{
    enum option_id nearest = 0;
    size_t least = SIZE_MAX;
    for (enum option_id id = 0; id < OPT_COUNT; id++) {
        size_t edits = distance(name, (struct piece){rows[id].name, strlen(rows[id].name)});
        if (edits < least) {
            least = edits;
            nearest = id;
        }
    }
    return nearest;
}

static int64_t nearest_word(const struct option_row *row, struct piece wrong)
{
    int64_t nearest = 0;
    size_t least = SIZE_MAX;
    for (int64_t i = 0; i <= row->most; i++) {
        size_t edits = distance(wrong, word_at(row->unit, i));
        if (edits < least) {
            least = edits;
            nearest = i;
        }
    }
    return nearest;
}

/* ---- showing ------------------------------------------------------------------------------------------------ */

static void add_piece(struct text *text, struct piece piece)
{
    for (size_t i = 0; i < piece.length; i++) {
        char c[2] = {piece.begin[i], '\0'};
        text_add(text, c);
    }
}

/* What the user wrote, fit for a line on a terminal. */
static void add_shown(struct text *text, struct piece piece)
{
    for (size_t i = 0; i < size_min(piece.length, LONGEST_SHOWN); i++) {
        char c = piece.begin[i];
        char shown[2] = {c >= ' ' && c <= '~' ? c : '?', '\0'};
        text_add(text, shown);
    }
    if (piece.length > LONGEST_SHOWN) {
        text_add(text, "...");
    }
}

/* In the largest unit that tells it exactly. */
static void add_size(struct text *text, int64_t bytes)
{
    static const char *const units[] = {" bytes", " KiB", " MiB", " GiB", " TiB"};
    size_t unit = 0;
    while (bytes != 0 && bytes % 1024 == 0 && unit < 4) {
        bytes /= 1024;
        unit++;
    }
    text_add_signed(text, bytes);
    text_add(text, units[unit]);
}

void option_add_value(struct text *text, enum option_id id, int64_t value)
{
    const struct option_row *row = &rows[id];
    switch (row->kind) {
    case OPTION_SIZE:
    case OPTION_LIMIT:
        add_size(text, value);
        return;
    case OPTION_WORD:
    case OPTION_MODE:
        add_piece(text, word_at(row->unit, value));
        return;
    case OPTION_TEXT:
        text_add(text, value == 0 ? "none" : "given");
        return;
    case OPTION_FILL:
        if (value < 0) {
            text_add(text, "off");
        } else {
            text_add_hex(text, (uint64_t)value);
        }
        return;
    case OPTION_BOOL:
    case OPTION_NUMBER:
        break;
    }
    text_add_signed(text, value);
    if (row->unit[0] != '\0') {
        text_add(text, " ");
        text_add(text, row->unit);
    }
}

static void add_range(struct text *text, enum option_id id)
{
    const struct option_row *row = &rows[id];
    if (row->kind == OPTION_WORD || row->kind == OPTION_MODE) {
        text_add(text, row->unit);
        return;
    }
    if (row->kind == OPTION_TEXT) {
        text_add(text, "text");
        return;
    }
    option_add_value(text, id, row->least);
    text_add(text, " to ");
    option_add_value(text, id, row->most);
}

void config_print(void (*write)(const char *bytes, size_t length))
{
    static const char head[] = "allot: ALLOT_OPTIONS=\"name=value,name,...\" takes these; now, and what is allowed:\n";
    write(head, sizeof head - 1);
    for (enum option_id id = 0; id < OPT_COUNT; id++) {
        char line[320];
        struct text text = text_in(line, sizeof line);
        text_add(&text, "allot:   ");
        text_add(&text, rows[id].name);
        text_add(&text, " = ");
        option_add_value(&text, id, option(id));
        text_add(&text, " (");
        add_range(&text, id);
        text_add(&text, "): ");
        text_add(&text, rows[id].help);
        text_add(&text, "\n");
        write(text.bytes, text.length);
    }
}

/* ---- parsing ------------------------------------------------------------------------------------------------ */

struct entry {
    struct piece name;
    struct piece value;
    bool has_value;
};

/* Begins a complaint: "allot: option name=value: ". */
static struct text complaint(char *buffer, size_t capacity, const struct entry *entry)
{
    struct text text = text_in(buffer, capacity);
    text_add(&text, "allot: option ");
    add_shown(&text, entry->name);
    if (entry->has_value) {
        text_add(&text, "=");
        add_shown(&text, entry->value);
    }
    text_add(&text, ": ");
    return text;
}

static void complain(struct config_parsed *parsed, struct text *text)
{
    text_add(text, "\n");
    parsed->n_complaints++;
    if (parsed->complain != NULL) {
        parsed->complain(text->bytes, text->length);
    }
}

static void complain_unknown(struct config_parsed *parsed, const struct entry *entry)
{
    char line[256];
    struct text text = text_in(line, sizeof line);
    text_add(&text, "allot: option \"");
    add_shown(&text, entry->name);
    text_add(&text, "\" is unknown; nearest is \"");
    text_add(&text, rows[nearest_option(entry->name)].name);
    text_add(&text, "\"");
    complain(parsed, &text);
}

/* Says what is wrong with the value and which one holds instead. */
static void complain_value(struct config_parsed *parsed, const struct entry *entry, enum option_id id, const char *what)
{
    char line[256];
    struct text text = complaint(line, sizeof line, entry);
    text_add(&text, what);
    if (rows[id].kind == OPTION_WORD || rows[id].kind == OPTION_MODE) {
        text_add(&text, rows[id].unit);
        if (entry->has_value) {
            text_add(&text, "; nearest is \"");
            add_piece(&text, word_at(rows[id].unit, nearest_word(&rows[id], entry->value)));
            text_add(&text, "\"");
        }
    }
    text_add(&text, "; using ");
    option_add_value(&text, id, parsed->values[id]);
    complain(parsed, &text);
}

static void complain_bounds(struct config_parsed *parsed, const struct entry *entry, enum option_id id, bool above)
{
    char line[256];
    struct text text = complaint(line, sizeof line, entry);
    text_add(&text, above ? "the most is " : "the least is ");
    option_add_value(&text, id, above ? rows[id].most : rows[id].least);
    text_add(&text, "; using that");
    complain(parsed, &text);
}

static int digit_of(char c, int base)
{
    int digit = 99;
    if (c >= '0' && c <= '9') {
        digit = c - '0';
    } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
        digit = (c | 0x20) - 'a' + 10;
    }
    return digit < base ? digit : -1;
}

/* n * factor + more, or the largest number there is. None is negative. */
static int64_t saturated(int64_t n, int64_t factor, int64_t more)
{
    return n > (INT64_MAX - more) / factor ? INT64_MAX : n * factor + more;
}

/* Takes a number, decimal or 0x, with or without a minus, from the front of rest. Too large a one saturates. */
static bool take_number(struct piece *rest, int64_t *out)
{
    struct piece s = *rest;
    bool negative = s.length > 0 && s.begin[0] == '-';
    s.begin += negative;
    s.length -= negative;
    bool hexadecimal = s.length > 2 && s.begin[0] == '0' && (s.begin[1] == 'x' || s.begin[1] == 'X');
    int base = hexadecimal ? 16 : 10;
    s.begin += hexadecimal ? 2 : 0;
    s.length -= hexadecimal ? 2 : 0;
    int64_t n = 0;
    size_t i = 0;
    for (; i < s.length && digit_of(s.begin[i], base) >= 0; i++) {
        n = saturated(n, base, digit_of(s.begin[i], base));
    }
    *out = negative ? -n : n;
    *rest = (struct piece){s.begin + i, s.length - i};
    return i > 0;
}

/* The factor that a suffix of a size stands for: k, K, kib, KiB and so on; 0 when it is none. */
static int64_t suffix_factor(struct piece suffix)
{
    static const char letters[] = "kmgt";
    if (suffix.length == 0) {
        return 1;
    }
    bool binary = suffix.length == 3 && (suffix.begin[1] | 0x20) == 'i' && (suffix.begin[2] | 0x20) == 'b';
    bool whole = suffix.length == 1 || binary;
    for (int i = 0; whole && i < 4; i++) {
        if ((suffix.begin[0] | 0x20) == letters[i]) {
            return (int64_t)1 << (10 * (i + 1));
        }
    }
    return 0;
}

static bool parse_size(struct piece value, int64_t *out)
{
    int64_t n;
    if (!take_number(&value, &n)) {
        return false;
    }
    int64_t factor = suffix_factor(value);
    if (factor == 0) {
        return false;
    }
    *out = n < 0 ? n : saturated(n, factor, 0);
    return true;
}

static bool parse_limit(struct piece value, int64_t *out)
{
    if (value.length == 0 || value.begin[value.length - 1] != '%') {
        return parse_size(value, out);
    }
    int64_t percent;
    value.length--;
    if (!take_number(&value, &percent) || value.length != 0 || percent < 0 || percent > 100) {
        return false;
    }
    size_t memory = os_memory_limit();
    *out = memory == SIZE_MAX ? 0 : (int64_t)(memory / 100) * percent; /* unlimited: no limit */
    return true;
}

static bool parse_word(const struct option_row *row, struct piece value, int64_t *out)
{
    for (int64_t i = 0; i <= row->most; i++) {
        if (piece_is(value, word_at(row->unit, i))) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool parse_bool(struct piece value, int64_t *out)
{
    static const char *const yes[] = {"1", "on", "yes", "true"};
    static const char *const no[] = {"0", "off", "no", "false"};
    for (size_t i = 0; i < 4; i++) {
        if (piece_equals(value, yes[i]) || piece_equals(value, no[i])) {
            *out = piece_equals(value, yes[i]);
            return true;
        }
    }
    return false;
}

static bool parse_number(struct piece value, int64_t *out)
{
    return take_number(&value, out) && value.length == 0;
}

/* False: the value is not of the option's kind at all. */
static bool parse_value(const struct option_row *row, struct piece value, int64_t *out)
{
    switch (row->kind) {
    case OPTION_BOOL:
        return parse_bool(value, out);
    case OPTION_SIZE:
        return parse_size(value, out);
    case OPTION_LIMIT:
        return parse_limit(value, out);
    case OPTION_WORD:
    case OPTION_MODE:
        return parse_word(row, value, out);
    case OPTION_TEXT:
        break; /* see keep_text */
    case OPTION_FILL:
        *out = -1;
        return piece_equals(value, "off") || parse_number(value, out);
    case OPTION_NUMBER:
        break;
    }
    return parse_number(value, out);
}

static const char *wanted(const struct option_row *row)
{
    switch (row->kind) {
    case OPTION_BOOL:
        return "not 0 or 1";
    case OPTION_SIZE:
        return "not a size such as 4096, 64k, 4m or 1g";
    case OPTION_LIMIT:
        return "not a size such as 512m or a share such as 75%";
    case OPTION_WORD:
    case OPTION_MODE:
        return "not one of ";
    case OPTION_TEXT:
        return "too long";
    case OPTION_FILL:
        return "not a byte or off";
    case OPTION_NUMBER:
        break;
    }
    return "not a number";
}

/* An empty text is as none. */
static bool keep_text(struct config_parsed *parsed, struct piece value, int64_t *out)
{
    size_t begin = parsed->texts_length;
    if (value.length >= CONFIG_TEXTS_MOST - begin) {
        return false;
    }
    memcpy(parsed->texts + begin, value.begin, value.length);
    parsed->texts[begin + value.length] = '\0';
    parsed->texts_length = begin + value.length + 1;
    *out = value.length == 0 ? 0 : (int64_t)begin + 1;
    return true;
}

static void parse_entry(const struct entry *entry, struct config_parsed *parsed)
{
    enum option_id id = 0;
    while (id < OPT_COUNT && !piece_equals(entry->name, rows[id].name)) {
        id++;
    }
    if (id == OPT_COUNT) {
        complain_unknown(parsed, entry);
        return;
    }
    const struct option_row *row = &rows[id];
    int64_t value = 1;
    if (!entry->has_value && row->kind != OPTION_BOOL && row->kind != OPTION_MODE) {
        complain_value(parsed, entry, id, row->kind == OPTION_WORD ? "needs a value, one of " : "needs a value");
        return;
    }
    if (row->kind == OPTION_TEXT ? !keep_text(parsed, entry->value, &value)
                                 : entry->has_value && !parse_value(row, entry->value, &value)) {
        complain_value(parsed, entry, id, wanted(row));
        return;
    }
    if (value < row->least || value > row->most) {
        complain_bounds(parsed, entry, id, value > row->most);
        value = value > row->most ? row->most : row->least;
    }
    parsed->values[id] = value;
}

static bool is_separator(char c)
{
    return c == ',' || c == ' ' || c == '\t' || c == '\n';
}

void config_parse(const char *text, struct config_parsed *parsed)
{
    while (*text != '\0') {
        struct entry entry = {.name = {text, 0}};
        while (*text != '\0' && *text != '=' && !is_separator(*text)) {
            text++;
        }
        entry.name.length = ptr_diff(text, entry.name.begin);
        entry.has_value = *text == '=';
        text += entry.has_value;
        entry.value.begin = text;
        while (entry.has_value && *text != '\0' && !is_separator(*text)) {
            text++;
        }
        entry.value.length = ptr_diff(text, entry.value.begin);
        if (entry.name.length > 0 || entry.has_value) {
            parse_entry(&entry, parsed);
        }
        text += *text != '\0';
    }
}

/* ---- the start ---------------------------------------------------------------------------------------------- */

static void parse_environment(struct config_parsed *parsed)
{
    char text[LONGEST_TEXT];
    if (!os_environment("ALLOT_OPTIONS", text, sizeof text)) {
        return;
    }
    config_parse(text, parsed);
    if (strlen(text) == sizeof text - 1 && parsed->complain != NULL) {
        static const char line[] = "allot: ALLOT_OPTIONS is too long: what follows its first 1023 bytes is ignored\n";
        parsed->complain(line, sizeof line - 1);
    }
}

void config_init(void)
{
    if (load_acquire(&config.done)) { /* O17 pairs with the release below: who passes here sees the values */
        return;
    }
    if (!os_environment_ready()) {
        return; /* before libc has been started; the defaults hold until somebody calls again */
    }
    /* Relaxed: each caller brings its own values; the flag decides only who speaks. */
    bool speaks = !xchg_relaxed(&config.spoken, true);
    struct config_parsed parsed = {.complain = speaks ? os_write_error : NULL};
    for (enum option_id id = 0; id < OPT_COUNT; id++) {
        parsed.values[id] = rows[id].initial;
    }
    parse_environment(&parsed);
    for (size_t i = 0; i < parsed.texts_length; i++) {
        store_relaxed(&config.texts[i], parsed.texts[i]);
    }
    for (enum option_id id = 0; id < OPT_COUNT; id++) {
        /* What another thread has stored meanwhile is the same, or newer: option_set. */
        int64_t expected = rows[id].initial;
        cas_relaxed(&config_values[id], &expected, parsed.values[id]);
    }
    /* O17 release. Without it a thread could pass above and still find the defaults. */
    store_release(&config.done, true);
    if (speaks && option(OPT_help) != 0) {
        config_print(os_write_error);
    }
}

/* ---- for who looks from outside ----------------------------------------------------------------------------- */

const struct allot_root_config config_root = {
    .bytes = sizeof config_root,
    .n = OPT_COUNT,
    .values = config_values,
    .rows = rows,
    .row_bytes = sizeof rows[0],
    .row_name = ROOT_FIELD(struct option_row, name),
};
