/* SPDX-License-Identifier: MIT */
/* pool_stack.c - the public stack: order, reach, the version's wrap, and no element lost or doubled among threads. */
#include "pool_test.h"

#include <pthread.h>

struct element {
    allot_stack_link link;
    _Atomic uint32_t owned;
    uint32_t n;
} __attribute__((aligned(16)));

#define N 64
#define N_THREADS 4
static struct element elements[N];
static allot_stack stack;

static void last_in_first_out(void **state)
{
    (void)state;
    allot_stack_init(&stack, elements);
    assert_int_equal(allot_stack_is_empty(&stack), 1);
    assert_null(allot_stack_pop(&stack));
    for (int i = 0; i < N; i++) {
        allot_stack_push(&stack, &elements[i].link);
    }
    assert_int_equal(allot_stack_is_empty(&stack), 0);
    for (int i = N - 1; i >= 0; i--) {
        assert_ptr_equal(allot_stack_pop(&stack), &elements[i].link);
    }
    assert_null(allot_stack_pop(&stack));
}

static void the_version_wraps(void **state)
{
    (void)state;
    allot_stack_init(&stack, elements);
    stack.head = UINT64_C(0xfffffffe) << 32;
    for (int i = 0; i < 8; i++) {
        allot_stack_push(&stack, &elements[0].link);
        allot_stack_push(&stack, &elements[1].link);
        assert_ptr_equal(allot_stack_pop(&stack), &elements[1].link);
        assert_ptr_equal(allot_stack_pop(&stack), &elements[0].link);
        assert_null(allot_stack_pop(&stack));
    }
}

static void links_out_of_reach_are_refused(void **state)
{
    (void)state;
    allot_stack_init(&stack, &elements[1]);
    /* Fatal: the process would end, so only the reach that there is gets tested here. */
    allot_stack_push(&stack, &elements[1].link);
    allot_stack_push(&stack, &elements[N - 1].link);
    assert_ptr_equal(allot_stack_pop(&stack), &elements[N - 1].link);
}

static void *shuffle(void *context)
{
    uint32_t me = (uint32_t)(uintptr_t)context;
    for (int i = 0; i < 300000; i++) {
        struct element *a = (struct element *)(void *)allot_stack_pop(&stack);
        struct element *b = i % 3 == 0 ? (struct element *)(void *)allot_stack_pop(&stack) : NULL;
        for (int k = 0; k < 2; k++) {
            struct element *element = k == 0 ? a : b;
            if (element != NULL) {
                assert_int_equal(xchg_acq_rel(&element->owned, me), 0);
                element->n++;
                assert_int_equal(xchg_acq_rel(&element->owned, 0), me);
                allot_stack_push(&stack, &element->link);
            }
        }
    }
    return NULL;
}

static void threads_lose_and_double_nothing(void **state)
{
    (void)state;
    allot_stack_init(&stack, elements);
    for (int i = 0; i < 7; i++) {
        allot_stack_push(&stack, &elements[i].link);
    }
    pthread_t threads[N_THREADS];
    for (uintptr_t i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, shuffle, (void *)(i + 1)), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    unsigned seen = 0;
    for (allot_stack_link *link; (link = allot_stack_pop(&stack)) != NULL;) {
        unsigned i = (unsigned)((struct element *)(void *)link - elements);
        assert_int_equal(seen & 1u << i, 0);
        seen |= 1u << i;
    }
    assert_int_equal(seen, 0x7f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(last_in_first_out),
        cmocka_unit_test(the_version_wraps),
        cmocka_unit_test(links_out_of_reach_are_refused),
        cmocka_unit_test(threads_lose_and_double_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
