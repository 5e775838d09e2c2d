# The pool beside AO_malloc (where Debian's libatomic-ops-dev is there), libc's malloc and the heap, in one run.
add_executable(allot_bench_pool pool.c)
target_compile_options(allot_bench_pool PRIVATE ${bench_flags})
target_link_libraries(allot_bench_pool PRIVATE allot_core allot_warnings Threads::Threads)
find_library(AO_GPL_LIBRARY atomic_ops_gpl)
find_library(AO_LIBRARY atomic_ops)
if(AO_GPL_LIBRARY AND AO_LIBRARY)
  target_link_options(allot_bench_pool PRIVATE LINKER:-u,AO_malloc LINKER:-u,AO_free LINKER:-u,AO_malloc_enable_mmap)
  target_link_libraries(allot_bench_pool PRIVATE ${AO_GPL_LIBRARY} ${AO_LIBRARY})
endif()
if(NOT ALLOT_SANITIZE) # the peer's library is not built for one
  add_test(NAME bench.pool COMMAND allot_bench_pool 0.001)
  set_tests_properties(bench.pool PROPERTIES LABELS bench TIMEOUT 120)
endif()
