/* SPDX-License-Identifier: MIT */
/* stress.h - behaviour under load. A program is a list of cases, each run in a fresh process, so that what one leaves
 * behind is not measured by the next.
 *
 *     program            runs the quick cases
 *     program --long     runs all, and takes its time
 *     program <case>     runs one
 */
#ifndef TESTS_STRESS_STRESS_H
#define TESTS_STRESS_STRESS_H

#include "../names.h"

struct stress_case {
    const char *name;
    void (*run)(void);
    const char *options; /* ALLOT_OPTIONS of its process; NULL: none */
    bool is_long;
};

int stress_main(int argc, char **argv, const struct stress_case *cases, size_t n_cases);

/* True under --long: more rounds. */
bool stress_is_long(void);

/* Ends the case. */
void stress_fail(const char *file, int line, const char *format, ...) __attribute__((noreturn, format(printf, 3, 4)));
void stress_skip(const char *why) __attribute__((noreturn));
#define EXPECT(x, ...)                                                                                                 \
    do {                                                                                                               \
        if (!(x)) {                                                                                                    \
            stress_fail(__FILE__, __LINE__, __VA_ARGS__);                                                              \
        }                                                                                                              \
    } while (0)

/* From the system, without stdio and without malloc. */
size_t resident_bytes(void);
/* Counted page by page, where the other is off by up to 32 pages a CPU; without pages of files, of which the kernel maps
 * 16 at a time when a function runs for the first time. */
size_t anonymous_bytes(void);
size_t peak_resident_bytes(void);
size_t n_mappings(void);
uint64_t now_ms(void);
void sleep_ms(unsigned ms);

/* Waits for a child up to a minute; kills it then. Its status, or -1 when it hung. */
int wait_for(pid_t child);

/* Runs itself again as `program --again <what>`, with these variables ("NAME=value", up to a NULL) set; what it says on
 * standard error goes to said, when that isn't NULL. main must hand "--again" to the program's own function. */
int run_again(const char *what, const char *const *environment, char *said, size_t capacity);

/* A table of blocks with patterns, for one user: a thread or a handler. */
enum { CHURN_SLOTS = 64 };

struct churn {
    uint64_t random;
    size_t most;
    struct {
        unsigned char *block;
        size_t size;
        unsigned seed;
    } slots[CHURN_SLOTS];
};

void churn_init(struct churn *churn, uint64_t seed, size_t most);
/* One random call: malloc, calloc, memalign, realloc or free; contents are checked. False: damage. */
bool churn_step(struct churn *churn);
bool churn_end(struct churn *churn);

#endif
