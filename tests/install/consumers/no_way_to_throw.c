/* SPDX-License-Identifier: MIT */
/* A C program that calls operator new by its linker name, fails, and has nothing that could throw. */
#include "ask.h"

void *_Znwm(size_t);

int main(void)
{
    void *volatile block = _Znwm(100);
    EXPECT(is_block_by(allot_query, block));
    block = _Znwm((size_t)PTRDIFF_MAX);
    return 0;
}
