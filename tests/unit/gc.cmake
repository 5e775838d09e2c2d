# Collected mappings. Collections need Linux's /proc, and threads that don't block the signal: the thread sanitizer has one
# that does.
allot_family_test(gc_mapping gc_mapping.c)
if(NOT ALLOT_OS STREQUAL "posix" AND NOT ALLOT_SANITIZE MATCHES "thread")
  allot_family_test(gc_collect gc_collect.c)
  allot_family_test(gc_leaks gc_leaks.c)
  if(NOT ALLOT_SANITIZE) # which takes all address space there is, and makes system calls of its own
    allot_test(unit.gc_limits gc_limits.c WITH names TIMEOUT 120)
    if(CMAKE_CXX_COMPILER)
      allot_test(unit.gc_vector gc_vector.cc WITH names)
    endif()
  endif()
endif()
allot_test(unit.gc_suppress gc_suppress.c)
