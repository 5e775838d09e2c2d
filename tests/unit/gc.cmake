# Collected mappings. Collections need Linux's /proc, and threads that don't block the signal: the thread sanitizer has one
# that does.
allot_family_test(gc_mapping gc_mapping.c)
if(NOT ALLOT_OS STREQUAL "posix" AND NOT ALLOT_SANITIZE MATCHES "thread")
  allot_family_test(gc_collect gc_collect.c)
  allot_family_test(gc_leaks gc_leaks.c)
endif()
allot_test(unit.gc_suppress gc_suppress.c)
