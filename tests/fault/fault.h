/* SPDX-License-Identifier: MIT */
/* fault.h - runs cases of misuse, and holds each against what is expected of it.
 *
 *     program                              all its cases, as the library is by default
 *     program --mode check                 the same in check mode
 *     program --mode unguarded             the same when no guard pages are left, as for most blocks of a long run
 *     program --mode sampler               the same with every block sampled
 *     program [--mode <mode>] <case>       one of them
 *     program --list                       name, error, and what is expected in each mode
 *     program --inside <mode> <case> fault|twin      the case itself, in this process
 */
#ifndef TESTS_FAULT_FAULT_H
#define TESTS_FAULT_FAULT_H

#include "../names.h"
#include "case.h"

#include <pthread.h>

/* A case that announces its line itself, and is for the default mode. */
#define CASE(function)                                                                                                 \
    {                                                                                                                  \
#function, function, NULL,                                                                                     \
        {                                                                                                              \
            NAMED, UNTRIED, UNTRIED, UNTRIED                                                                           \
        }                                                                                                              \
    }

int fault_main(int argc, char **argv, const struct fault_case *cases, size_t n_cases);

/* The case that runs in this process, and how. */
const struct fault_case *running_case(void);
enum fault_mode running_mode(void);

#endif
