/* SPDX-License-Identifier: MIT */
/* json.h - writes JSON, one value after the other, indented.
 *
 *     struct json json = json_begin(stdout, "options");     {"allot": "0.1.0", "command": "options", "format": 1,
 *     json_array(&json, "options");                          "options": [
 *     json_object(&json, NULL);                              {
 *     json_text(&json, "name", "stats");                     "name": "stats"
 *     json_close(&json);  json_close(&json);                 } ]
 *     json_end(&json);                                       }
 *
 * key is NULL in arrays. format grows when a name is removed or changes its meaning; new names come without notice.
 * Bytes that are no UTF-8 become U+FFFD.
 */
#ifndef TOOL_JSON_H
#define TOOL_JSON_H

#include "tool.h"

#define JSON_DEPTH 16

struct json {
    FILE *out;
    bool lines;              /* no line breaks inside: one document a line */
    size_t depth;            /* of what is open */
    char open[JSON_DEPTH];   /* '{' or '[' */
    bool filled[JSON_DEPTH]; /* something stands in it already */
};

struct json json_begin(FILE *out, const char *command);
/* A document of its own without the head, on one line: for answers that come one by one. */
struct json json_begin_line(FILE *out);
void json_end(struct json *json);

void json_object(struct json *json, const char *key);
void json_array(struct json *json, const char *key);
void json_close(struct json *json);

void json_text(struct json *json, const char *key, const char *value); /* NULL is null */
void json_number(struct json *json, const char *key, uint64_t value);
void json_signed(struct json *json, const char *key, int64_t value);
void json_real(struct json *json, const char *key, double value);   /* what is no number is null */
void json_raw(struct json *json, const char *value, size_t length); /* what is JSON already, in an array */
void json_truth(struct json *json, const char *key, bool value);

/* The text as it stands between the quotes of a JSON string. */
void json_print_escaped(FILE *out, const char *s);

#endif
