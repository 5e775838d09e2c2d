/* SPDX-License-Identifier: MIT */
/* report.c - what follows the line. */
#include "check/check_internal.h"
#include "config/config.h"

void report_tell(const struct fault *fault, const char *line)
{
    (void)fault;
    (void)line;
}

bool report_goes_on(const struct fault *fault)
{
    if (!fault->fatal && option(OPT_halt) == 0) {
        return true;
    }
    int code = (int)option(OPT_exit_code);
    if (code != 0) {
        os_exit(code);
    }
    return false;
}
