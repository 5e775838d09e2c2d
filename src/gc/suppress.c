/* SPDX-License-Identifier: MIT */
/* suppress.c - suppressions, in the two forms that people have them in.
 *
 *     LeakSanitizer     leak:PATTERN        a function, a file or a module of the stack contains PATTERN; * is
 * anything, ^ and $ are the ends Valgrind          {                   the frames match from the innermost on; ... is
 * any number of them name Memcheck:Leak match-leak-kinds: definite fun:PATTERN      * is anything, ? one character
 *                          obj:PATTERN
 *                       }
 *
 * A suppression lies in the books as a row of matchers.
 */
#include "gc/gc_internal.h"

#include <allot/leak.h>
#include <string.h>

#define FRAMES_MOST 24u
#define FILE_MOST (256 * KIB)

enum matcher_kind { MATCH_ANYWHERE, MATCH_FUNCTION, MATCH_OBJECT, MATCH_SOURCE, MATCH_ELLIPSIS };

struct matcher {
    enum matcher_kind kind;
    const char *pattern; /* in the text, which is kept */
    size_t length;
};

struct suppression {
    struct suppression *next;
    unsigned kinds; /* a bit a gc_leak_kind */
    size_t n;
    struct matcher matchers[FRAMES_MOST];
};

#define ALL_KINDS ((1u << GC_LEAK_KINDS) - 1)

/* ---- patterns ----------------------------------------------------------------------------------------------- */

/* The whole of s; * is anything, ? one character when question says so. */
static bool matches(const char *pattern, size_t length, const char *s, bool question)
{
    size_t star = SIZE_MAX;
    const char *resume = NULL;
    size_t i = 0;
    while (*s != '\0') {
        if (i < length && pattern[i] == '*') {
            star = i++;
            resume = s;
        } else if (i < length && (pattern[i] == *s || (question && pattern[i] == '?'))) {
            i++;
            s++;
        } else if (star != SIZE_MAX) {
            i = star + 1;
            s = ++resume;
        } else {
            return false;
        }
    }
    while (i < length && pattern[i] == '*') {
        i++;
    }
    return i == length;
}

/* Somewhere in s, but for ^ and $. */
static bool contains(const char *pattern, size_t length, const char *s)
{
    bool from_begin = length > 0 && pattern[0] == '^';
    bool to_end = length > 0 && pattern[length - 1] == '$';
    pattern += from_begin;
    length -= (size_t)from_begin + (to_end && length > (size_t)from_begin);
    char whole[512];
    if (s == NULL || length + 3 > sizeof whole) {
        return false;
    }
    size_t n = 0;
    if (!from_begin) {
        whole[n++] = '*';
    }
    memcpy(whole + n, pattern, length);
    n += length;
    if (!to_end) {
        whole[n++] = '*';
    }
    return matches(whole, n, s, false);
}

static bool frame_matches(const struct matcher *matcher, const struct gc_frame *frame)
{
    const char *pattern = matcher->pattern;
    size_t length = matcher->length;
    switch (matcher->kind) {
    case MATCH_ANYWHERE:
        return contains(pattern, length, frame->function) || contains(pattern, length, frame->file) ||
               contains(pattern, length, frame->module);
    case MATCH_FUNCTION:
        return frame->function != NULL && matches(pattern, length, frame->function, true);
    case MATCH_OBJECT:
        return frame->module != NULL && matches(pattern, length, frame->module, true);
    case MATCH_SOURCE:
        return frame->file != NULL && matches(pattern, length, frame->file, true);
    default:
        return false;
    }
}

/* From the innermost frame on; the suppression may end before the stack does. */
static bool stack_matches(const struct matcher *matchers, size_t n, const struct gc_frame *frames, size_t n_frames)
{
    if (n == 0) {
        return true;
    }
    if (matchers[0].kind == MATCH_ELLIPSIS) {
        for (size_t skip = 0; skip <= n_frames; skip++) {
            if (stack_matches(matchers + 1, n - 1, frames + skip, n_frames - skip)) {
                return true;
            }
        }
        return false;
    }
    return n_frames > 0 && frame_matches(matchers, frames) &&
           stack_matches(matchers + 1, n - 1, frames + 1, n_frames - 1);
}

static bool suppresses(const struct suppression *suppression, const struct gc_frame *frames, size_t n_frames)
{
    if (suppression->matchers[0].kind != MATCH_ANYWHERE) {
        return stack_matches(suppression->matchers, suppression->n, frames, n_frames);
    }
    for (size_t i = 0; i < n_frames; i++) {
        if (frame_matches(suppression->matchers, &frames[i])) {
            return true;
        }
    }
    return false;
}

bool gc_suppressed(enum gc_leak_kind kind, const struct gc_frame *frames, size_t n_frames)
{
    struct gc *gc = gc_now();
    bool result = false;
    if (gc == NULL) {
        return false;
    }
    os_lock(&gc->lock);
    for (struct suppression *each = gc->suppressions; each != NULL && !result; each = each->next) {
        result = (each->kinds >> kind & 1) != 0 && suppresses(each, frames, n_frames);
    }
    os_unlock(&gc->lock);
    return result;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

struct line {
    const char *begin;
    size_t length;
};

/* The next line that says something, without spaces at its ends; false at the end. */
static bool next_line(const char **at, struct line *line)
{
    while (**at != '\0') {
        const char *begin = *at;
        const char *end = begin + strcspn(begin, "\n");
        *at = *end == '\0' ? end : end + 1;
        begin += strspn(begin, " \t");
        while (end > begin && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r')) {
            end--;
        }
        if (end > begin && *begin != '#') {
            *line = (struct line){begin, (size_t)(end - begin)};
            return true;
        }
    }
    return false;
}

static bool begins(const struct line *line, const char *word)
{
    return line->length >= strlen(word) && strncmp(line->begin, word, strlen(word)) == 0;
}

static void complain(const struct line *line, const char *what)
{
    char buffer[256];
    struct text text = text_in(buffer, sizeof buffer - 1);
    text_add(&text, "allot: suppression: ");
    text_add(&text, what);
    text_add(&text, ": ");
    for (size_t i = 0; i < line->length && i < 100; i++) {
        const char one[2] = {line->begin[i], '\0'};
        text_add(&text, one);
    }
    buffer[text.length] = '\n';
    os_write_error(buffer, text.length + 1);
}

static void add_matcher(struct suppression *s, enum matcher_kind kind, const struct line *line, size_t skip)
{
    if (s->n < FRAMES_MOST) {
        s->matchers[s->n++] = (struct matcher){kind, line->begin + skip, line->length - skip};
    }
}

static unsigned kinds_of(const struct line *line)
{
    static const char *const words[] = {"definite", "indirect", "possible", "reachable"};
    char text[128];
    struct text copy = text_in(text, sizeof text);
    for (size_t i = 0; i < line->length; i++) {
        const char one[2] = {line->begin[i], '\0'};
        text_add(&copy, one);
    }
    unsigned kinds = strstr(text, "all") != NULL ? ALL_KINDS : 0;
    for (unsigned i = 0; i < GC_LEAK_KINDS; i++) {
        kinds |= strstr(text, words[i]) != NULL ? 1u << i : 0;
    }
    return kinds;
}

/* What stands between { and }. False: it is about something else than leaks, or can't be read. */
static bool read_block(const char **at, struct suppression *s)
{
    struct line line;
    bool is_leak = false;
    for (int i = 0; next_line(at, &line) && line.begin[0] != '}'; i++) {
        const char *colon = memchr(line.begin, ':', line.length);
        if (i == 0) {
            continue; /* its name */
        }
        if (i == 1) {
            is_leak = line.length >= 5 && colon != NULL && (size_t)(line.begin + line.length - colon) == 5 &&
                      strncmp(colon, ":Leak", 5) == 0;
        } else if (begins(&line, "match-leak-kinds:")) {
            s->kinds = kinds_of(&line);
        } else if (begins(&line, "fun:")) {
            add_matcher(s, MATCH_FUNCTION, &line, 4);
        } else if (begins(&line, "obj:")) {
            add_matcher(s, MATCH_OBJECT, &line, 4);
        } else if (begins(&line, "src:")) {
            add_matcher(s, MATCH_SOURCE, &line, 4);
        } else if (begins(&line, "...")) {
            add_matcher(s, MATCH_ELLIPSIS, &line, 3);
        } else if (is_leak) {
            complain(&line, "not understood");
        }
    }
    return is_leak && s->n > 0;
}

/* LeakSanitizer's files may hold what its sisters suppress. */
static bool is_of_a_sister(const struct line *line)
{
    const char *colon = memchr(line->begin, ':', line->length);
    return colon != NULL;
}

size_t suppress_read(struct gc *gc, const char *text)
{
    struct line line;
    size_t n = 0;
    struct suppression *s = NULL;
    while (next_line(&text, &line)) {
        s = s != NULL ? s : store_take(&gc->suppression_store);
        if (s == NULL) {
            break;
        }
        *s = (struct suppression){.kinds = ALL_KINDS};
        bool good = false;
        if (line.begin[0] == '{') {
            good = read_block(&text, s);
        } else if (begins(&line, "leak:")) {
            add_matcher(s, MATCH_ANYWHERE, &line, 5);
            good = true;
        } else if (!is_of_a_sister(&line)) {
            complain(&line, "not understood");
        }
        if (good) {
            s->next = gc->suppressions;
            gc->suppressions = s;
            s = NULL;
            n++;
        }
    }
    if (s != NULL) {
        store_give(&gc->suppression_store, s);
    }
    return n;
}

size_t suppress_item_bytes(void)
{
    return sizeof(struct suppression);
}

/* The text stays in the books. */
static size_t read_kept(struct gc *gc, const char *text, size_t length)
{
    char *copy = books_map(length + 1);
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, text, length);
    return suppress_read(gc, copy);
}

static void read_file(struct gc *gc, const char *path)
{
    char *text = books_map(FILE_MOST);
    long length = text == NULL ? -1 : os_file_read(path, text, FILE_MOST - 1);
    if (length < 0) {
        struct line line = {path, strlen(path)};
        complain(&line, "can't be read");
        return;
    }
    suppress_read(gc, text);
}

void suppress_read_files(struct gc *gc)
{
    char paths[1024];
    if (gc->suppressions_read || !os_environment("ALLOT_SUPPRESSIONS", paths, sizeof paths)) {
        return;
    }
    gc->suppressions_read = true;
    for (char *path = paths; *path != '\0';) {
        size_t length = strcspn(path, ":");
        bool is_last = path[length] == '\0';
        path[length] = '\0';
        if (length > 0) {
            read_file(gc, path);
        }
        path += length + !is_last;
    }
}

size_t allot_leak_suppress(const char *text)
{
    struct gc *gc = text == NULL ? NULL : gc_start();
    if (gc == NULL) {
        return 0;
    }
    os_lock(&gc->lock);
    size_t n = read_kept(gc, text, strlen(text));
    os_unlock(&gc->lock);
    return n;
}
