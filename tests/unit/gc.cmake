# Collected mappings. Collections need Linux's /proc.
allot_family_test(gc_mapping gc_mapping.c)
if(NOT ALLOT_OS STREQUAL "posix")
  allot_family_test(gc_collect gc_collect.c)
endif()
