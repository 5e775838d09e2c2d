# ALLOT_VERSION, from the one place that states it.
file(STRINGS ${CMAKE_CURRENT_SOURCE_DIR}/include/allot/allot.h allot_version_lines REGEX "^#define ALLOT_VERSION_")
string(REGEX MATCHALL "[0-9]+" ALLOT_VERSION "${allot_version_lines}")
list(JOIN ALLOT_VERSION "." ALLOT_VERSION)
