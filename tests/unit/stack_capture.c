/* SPDX-License-Identifier: MIT */
/* stack_capture.c - the unwinder, on code without frame pointers: calls, callbacks, signals, PLT, and at every
 * instruction.
 */
#include "unit.h"

#undef KIB
#undef MIB
#undef GIB
#include "stack/stack.h"

#include <pthread.h>
#include <signal.h>
#include <ucontext.h>
#if defined(__GLIBC__)
#include <execinfo.h>
#endif

enum { MOST = 64 };

static uintptr_t pcs[MOST];
static volatile size_t n_pcs; /* handlers write it */

static bool contains(uintptr_t pc)
{
    for (size_t i = 0; i < n_pcs; i++) {
        if (pcs[i] == pc) {
            return true;
        }
    }
    return false;
}

/* Who calls has the return address of his own caller among what was found, and everything in between. */
#define HERE ((uintptr_t)__builtin_extract_return_addr(__builtin_return_address(0)))

static __attribute__((noinline)) size_t innermost(size_t n)
{
    n_pcs = stack_capture(pcs, n);
    return n_pcs;
}

/* A frame of odd size, and registers that must be saved. */
static __attribute__((noinline)) size_t middle(size_t n, volatile int *sum)
{
    volatile char locals[333];
    for (size_t i = 0; i < sizeof locals; i++) {
        locals[i] = (char)i;
        *sum += locals[i];
    }
    return innermost(n) + (size_t)(*sum == -1);
}

static uintptr_t outer_returns_to;

static __attribute__((noinline)) size_t outer(size_t n)
{
    volatile int sum = 0;
    outer_returns_to = HERE;
    return middle(n, &sum) + (size_t)(sum == -1);
}

static void calls_are_followed(void **state)
{
    (void)state;
    assert_true(outer(MOST) > 3);
    assert_true(contains(outer_returns_to));
    assert_true(pcs[3] == outer_returns_to); /* innermost, middle, outer, this */
}

static void as_many_as_wanted_and_no_more(void **state)
{
    (void)state;
    outer(MOST);
    uintptr_t first = pcs[1];
    memset(pcs, 0, sizeof pcs);
    assert_int_equal(outer(2), 2);
    assert_true(pcs[1] == first && pcs[2] == 0);
    assert_int_equal(outer(0), 0);
}

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static __attribute__((noinline)) void compare_with_backtrace(void)
{
    void *theirs[MOST];
    int n = backtrace(theirs, MOST);
    innermost(MOST);
    /* The first of theirs and the second of ours lie in this function, at two places. */
    assert_int_equal(n_pcs, (size_t)n + 1);
    for (int i = 1; i < n; i++) {
        assert_true(pcs[i + 1] == (uintptr_t)theirs[i]);
    }
}

static int compare_numbers(const void *a, const void *b)
{
    static int times;
    if (times++ == 3) {
        compare_with_backtrace();
    }
    return *(const int *)a - *(const int *)b;
}

/* qsort is libc's code, which calls back. */
static void libc_agrees(void **state)
{
    (void)state;
    int numbers[] = {5, 3, 9, 1, 7, 2};
    compare_with_backtrace();
    qsort(numbers, 6, sizeof numbers[0], compare_numbers);
}

static void *compare_in_thread(void *unused)
{
    compare_with_backtrace();
    return unused;
}

static void threads_are_followed_to_their_begin(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, compare_in_thread, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}
#endif

#if defined(__linux__)
/* ---- signals ------------------------------------------------------------------------------------------------ */

static void handle(int signal)
{
    (void)signal;
    innermost(MOST);
}

static uintptr_t raiser_returns_to;

/* By an instruction of its own, where there is one: a libc without tables can't be passed through. */
static __attribute__((noinline)) void raise_here(void)
{
    raiser_returns_to = HERE;
#if defined(__x86_64__)
    __asm__ volatile("int3" : : : "memory");
#else
    raise(SIGTRAP);
#endif
}

static void handlers_lead_to_what_they_interrupted(void **state)
{
    (void)state;
    signal(SIGTRAP, handle);
    n_pcs = 0;
    raise_here();
    assert_true(contains(raiser_returns_to));
}

static void handlers_on_a_stack_of_their_own_too(void **state)
{
    (void)state;
    static char other[64 * 1024];
    stack_t alternate = {.ss_sp = other, .ss_size = sizeof other};
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_ONSTACK};
    assert_int_equal(sigaltstack(&alternate, NULL), 0);
    assert_int_equal(sigaction(SIGTRAP, &action, NULL), 0);
    n_pcs = 0;
    raise_here();
    assert_true(contains(raiser_returns_to));
}

static void handle_with_context(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    struct os_registers registers;
    n_pcs = os_registers_of(context, &registers) ? stack_capture_from(&registers, pcs, MOST) : 0;
}

static void a_context_is_followed(void **state)
{
    (void)state;
    struct sigaction action = {.sa_sigaction = handle_with_context, .sa_flags = SA_SIGINFO};
    assert_int_equal(sigaction(SIGTRAP, &action, NULL), 0);
    raise_here();
    assert_true(contains(raiser_returns_to));
}
#endif

#if defined(__GLIBC__) && defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* ---- every instruction -------------------------------------------------------------------------------------- */

#define TRAP_FLAG 0x100u

static volatile size_t n_steps;
static volatile size_t n_lost;
static uintptr_t anchor;

static void handle_step(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    struct os_registers registers;
    os_registers_of(context, &registers);
    n_pcs = stack_capture_from(&registers, pcs, MOST);
    n_steps++;
    n_lost += contains(anchor) ? 0 : 1;
}

static int compare_plain(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Through PLT stubs, prologues and epilogues, of this program and of libc. */
static __attribute__((noinline)) void work_to_step_through(void)
{
    int numbers[] = {5, 3, 9};
    volatile int sum = 0;
    anchor = HERE;
    __asm__ volatile("pushfq\n\torq %0, (%%rsp)\n\tpopfq" : : "i"(TRAP_FLAG) : "memory", "cc");
    qsort(numbers, 3, sizeof numbers[0], compare_plain);
    sum += (int)strlen(getenv("PATH") == NULL ? "" : "x") + atoi("12");
    middle(8, &sum);
    __asm__ volatile("pushfq\n\tandq %0, (%%rsp)\n\tpopfq" : : "i"(~(long)TRAP_FLAG) : "memory", "cc");
}

static void every_instruction_knows_its_callers(void **state)
{
    (void)state;
    struct sigaction action = {.sa_sigaction = handle_step, .sa_flags = SA_SIGINFO};
    assert_int_equal(sigaction(SIGTRAP, &action, NULL), 0);
    work_to_step_through();
    assert_true(n_steps > 500);
    /* Between the push of the flags and their pop, which no table describes. */
    assert_true(n_lost <= 2);
}
#endif

/* ---- the depot ---------------------------------------------------------------------------------------------- */

static void a_stack_has_one_number(void **state)
{
    (void)state;
    uintptr_t one[] = {1, 2, 3};
    uintptr_t other[] = {1, 2, 4};
    uintptr_t back[STACK_FRAMES_MOST];
    uint32_t number = stack_keep(one, 3);
    assert_int_not_equal(number, 0);
    assert_int_equal(stack_keep(one, 3), number);
    assert_int_not_equal(stack_keep(other, 3), number);
    assert_int_not_equal(stack_keep(one, 2), number);
    assert_int_equal(stack_recall(number, back), 3);
    assert_memory_equal(back, one, sizeof one);
    assert_int_equal(stack_keep(one, 0), 0);
    assert_int_equal(stack_recall(0, back), 0);
}

enum { DIFFERENT = 20000 };

static void *keep_many(void *unused)
{
    (void)unused;
    uintptr_t stack[20];
    uintptr_t back[STACK_FRAMES_MOST];
    for (uintptr_t i = 0; i < DIFFERENT; i++) {
        for (uintptr_t k = 0; k < 20; k++) {
            stack[k] = i * k + 77;
        }
        uint32_t number = stack_keep(stack, 20);
        if (number == 0 || stack_recall(number, back) != 20 || memcmp(back, stack, sizeof stack) != 0) {
            return stack_keep; /* not NULL */
        }
    }
    return NULL;
}

static void threads_keep_stacks_at_once(void **state)
{
    (void)state;
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, keep_many, NULL), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        assert_null(result);
    }
    assert_in_range(stack_depot_bytes(), 20000 * 160, 4 * 20000 * 200);
}

/* ---- modules ------------------------------------------------------------------------------------------------ */

static void modules_are_named(void **state)
{
    (void)state;
    struct stack_module module;
    if (!stack_module_at((uintptr_t)calls_are_followed, &module)) {
        skip(); /* where the platform can't tell */
    }
    assert_non_null(strstr(module.path, "unit.stack_capture"));
    assert_in_range(module.offset, 1, 16 * 1024 * 1024);
    assert_true(stack_module_at((uintptr_t)strtol, &module));
    assert_int_equal(module.path[0], '/');
    assert_false(stack_module_at((uintptr_t)&module, &module)); /* the stack is no module */
    assert_false(stack_module_at(4, &module));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_followed),
        cmocka_unit_test(as_many_as_wanted_and_no_more),
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(libc_agrees),
        cmocka_unit_test(threads_are_followed_to_their_begin),
#endif
#if defined(__linux__)
        cmocka_unit_test(handlers_lead_to_what_they_interrupted),
        cmocka_unit_test(handlers_on_a_stack_of_their_own_too),
        cmocka_unit_test(a_context_is_followed),
#endif
#if defined(__GLIBC__) && defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(every_instruction_knows_its_callers),
#endif
        cmocka_unit_test(a_stack_has_one_number),
        cmocka_unit_test(threads_keep_stacks_at_once),
        cmocka_unit_test(modules_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
