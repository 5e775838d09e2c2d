/* SPDX-License-Identifier: MIT */
/* complete.h - what a shell may offer for the next word; see complete.c. */
#ifndef TOOL_COMPLETE_H
#define TOOL_COMPLETE_H

/* words: what follows "allot complete". Prints, and returns how to leave. */
int complete(int n, char **words);

#endif
