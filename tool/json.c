/* SPDX-License-Identifier: MIT */
/* json.c - see json.h. */
#include "json.h"

#include <allot/allot.h>
#include <inttypes.h>
#include <string.h>

/* How many bytes the UTF-8 character at s takes; 0 when there is none. */
static size_t character_bytes(const unsigned char *s)
{
    static const struct {
        unsigned char mask, lead;
        uint32_t least;
    } kinds[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    for (size_t n = 1; n <= 4; n++) {
        if ((s[0] & kinds[n - 1].mask) != kinds[n - 1].lead) {
            continue;
        }
        uint32_t code = s[0] & (unsigned char)~kinds[n - 1].mask;
        for (size_t i = 1; i < n; i++) {
            if ((s[i] & 0xc0) != 0x80) {
                return 0;
            }
            code = code << 6 | (s[i] & 0x3f);
        }
        bool surrogate = code >= 0xd800 && code <= 0xdfff;
        return code < kinds[n - 1].least || code > 0x10ffff || surrogate ? 0 : n;
    }
    return 0;
}

void json_print_escaped(FILE *out, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    while (*s != '\0') {
        size_t n = character_bytes(s);
        if (n == 0) {
            fputs("\\ufffd", out);
            n = 1;
        } else if (*s == '"' || *s == '\\') {
            fprintf(out, "\\%c", *s);
        } else if (*s < 0x20 || *s == 0x7f) {
            fprintf(out, "\\u%04x", *s);
        } else {
            fwrite(s, 1, n, out);
        }
        s += n;
    }
}

static void new_line(struct json *json)
{
    if (!json->lines) {
        fprintf(json->out, "\n%*s", (int)(2 * json->depth), "");
    }
}

/* What stands before a value: a comma, a place, its key. */
static void before(struct json *json, const char *key)
{
    if (json->depth > 0) {
        bool *filled = &json->filled[json->depth - 1];
        fputs(*filled ? (json->lines ? ", " : ",") : "", json->out);
        *filled = true;
        new_line(json);
    }
    if (key != NULL) {
        fputc('"', json->out);
        json_print_escaped(json->out, key);
        fputs("\": ", json->out);
    }
}

static void open_one(struct json *json, const char *key, char bracket)
{
    before(json, key);
    fputc(bracket, json->out);
    json->open[json->depth] = bracket;
    json->filled[json->depth] = false;
    json->depth++;
}

void json_object(struct json *json, const char *key)
{
    open_one(json, key, '{');
}

void json_array(struct json *json, const char *key)
{
    open_one(json, key, '[');
}

void json_close(struct json *json)
{
    json->depth--;
    if (json->filled[json->depth]) {
        new_line(json);
    }
    fputc(json->open[json->depth] == '{' ? '}' : ']', json->out);
}

struct json json_begin(FILE *out, const char *command)
{
    struct json json = {.out = out};
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", ALLOT_VERSION_MAJOR, ALLOT_VERSION_MINOR, ALLOT_VERSION_PATCH);
    json_object(&json, NULL);
    json_text(&json, "allot", version);
    json_text(&json, "command", command);
    json_number(&json, "format", 1);
    return json;
}

struct json json_begin_line(FILE *out)
{
    struct json json = {.out = out, .lines = true};
    json_object(&json, NULL);
    return json;
}

void json_end(struct json *json)
{
    while (json->depth > 0) {
        json_close(json);
    }
    fputc('\n', json->out);
}

void json_text(struct json *json, const char *key, const char *value)
{
    before(json, key);
    if (value == NULL) {
        fputs("null", json->out);
        return;
    }
    fputc('"', json->out);
    json_print_escaped(json->out, value);
    fputc('"', json->out);
}

void json_number(struct json *json, const char *key, uint64_t value)
{
    before(json, key);
    fprintf(json->out, "%" PRIu64, value);
}

void json_signed(struct json *json, const char *key, int64_t value)
{
    before(json, key);
    fprintf(json->out, "%" PRId64, value);
}

void json_real(struct json *json, const char *key, double value)
{
    before(json, key);
    if (value != value || value - value != 0) {
        fputs("null", json->out);
    } else {
        fprintf(json->out, "%.9g", value);
    }
}

void json_truth(struct json *json, const char *key, bool value)
{
    before(json, key);
    fputs(value ? "true" : "false", json->out);
}

void json_raw(struct json *json, const char *value, size_t length)
{
    before(json, NULL);
    fwrite(value, 1, length, json->out);
}
