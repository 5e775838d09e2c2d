/* SPDX-License-Identifier: MIT */
/* stack_internal.h - what the files of this room share. */
#ifndef STACK_STACK_INTERNAL_H
#define STACK_STACK_INTERNAL_H

#include "stack/stack.h"

/* What frame.c and module.c have of stack_each_books. */
void *frame_statics(size_t *bytes);
void *module_statics(size_t *bytes);

/* ---- cfi.c: what .eh_frame says of an address --------------------------------------------------------------- */

enum rule_kind {
    RULE_SAME, /* the caller's value is still in the register */
    RULE_UNDEFINED,
    RULE_AT,       /* saved at CFA + value */
    RULE_IS,       /* it is CFA + value */
    RULE_REGISTER, /* in register value */
    RULE_AT_EXPR,  /* saved where expression says */
    RULE_IS_EXPR   /* it is what expression says */
};

struct rule {
    enum rule_kind kind;
    intptr_t value;
    const uint8_t *expression; /* its length, then itself */
};

/* How to come from a frame to its caller's. CFA: the stack pointer as it was before the call. */
struct frame_rules {
    uint32_t cfa_register;
    intptr_t cfa_offset;
    const uint8_t *cfa_expression; /* not NULL: instead of the two */
    struct rule of[OS_REGISTERS];
    uint32_t return_register;
    bool signal; /* a signal handler's return: the caller was interrupted, and made no call */
};

/* unwind: a module's .eh_frame_hdr. False: it says nothing about pc. */
bool cfi_find(const void *unwind, uintptr_t pc, struct frame_rules *rules);

/* ---- module.c ----------------------------------------------------------------------------------------------- */

/* The .eh_frame_hdr of the module with code at pc; NULL: none known. */
const void *module_unwind(uintptr_t pc);

/* ---- reading encoded numbers -------------------------------------------------------------------------------- */

uint64_t read_uleb(const uint8_t **at);
int64_t read_sleb(const uint8_t **at);

/* Unaligned, of the machine's own byte order. */
#define READ(type, at) (*(const struct { type value; } __attribute__((packed, may_alias)) *)(const void *)(at)).value

#endif
