/* SPDX-License-Identifier: MIT */
/* ao_malloc.c - AO_malloc and its companions on the public pool of liballot_ao, which is a pool of its own. */
#include "pool/pool.h"

#include "atomic_ops_malloc.h"

__attribute__((visibility("default"))) void *AO_malloc(size_t size_bytes)
{
    return pool_malloc(&pool_public, size_bytes, 16);
}

__attribute__((visibility("default"))) void AO_free(void *block)
{
    pool_free(block);
}

__attribute__((visibility("default"))) void AO_malloc_enable_mmap(void)
{
    pool_enable_growth(&pool_public);
}
