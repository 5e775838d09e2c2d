/* SPDX-License-Identifier: MIT */
/* hooks.c - see hooks.h. */
#include "base/hooks.h"

_Atomic(const struct hooks *) hooks_set;
