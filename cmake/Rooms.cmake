# The rooms of src/, in the order of src/LAYERS.
#
#   allot_room(<room> <source>...)       in src/<room>/CMakeLists.txt: what the room is made of
#   allot_standard_names(<source>...)    in src/malloc/CMakeLists.txt: what defines malloc, free, operator new, ...
#
# They leave behind
#   ALLOT_ROOM_OBJECTS    the objects of every room, without the standard names
#   ALLOT_NAME_OBJECTS    the objects of the standard names; none in builds with a sanitizer
#   allot_rooms           the rooms as a library for tests that look inside
#   allot_rooms_fake      the same on an OS that fails on command (os/fake.c)
set(ALLOT_ROOM_OBJECTS "")
set(ALLOT_NAME_OBJECTS "")

function(allot_room room)
  add_library(allot_room_${room} OBJECT ${ARGN})
  target_link_libraries(allot_room_${room} PRIVATE allot_flags)
  set_property(GLOBAL APPEND PROPERTY allot_rooms ${room})
endfunction()

function(allot_standard_names)
  add_library(allot_names OBJECT EXCLUDE_FROM_ALL ${ARGN})
  target_link_libraries(allot_names PRIVATE allot_flags)
endfunction()

file(STRINGS ${PROJECT_SOURCE_DIR}/src/LAYERS lines REGEX "^[a-z]")
foreach(line IN LISTS lines)
  string(REGEX MATCH "^[a-z]+" room "${line}")
  if(EXISTS ${PROJECT_SOURCE_DIR}/src/${room}/CMakeLists.txt)
    add_subdirectory(src/${room})
  endif()
endforeach()

get_property(rooms GLOBAL PROPERTY allot_rooms)
foreach(room IN LISTS rooms)
  list(APPEND ALLOT_ROOM_OBJECTS $<TARGET_OBJECTS:allot_room_${room}>)
endforeach()
if(TARGET allot_names AND NOT ALLOT_SANITIZE) # there the sanitizer's malloc stays, and tests use the allot_* twins
  set(ALLOT_NAME_OBJECTS $<TARGET_OBJECTS:allot_names>)
endif()

add_library(allot_rooms STATIC EXCLUDE_FROM_ALL ${ALLOT_ROOM_OBJECTS})
set_target_properties(allot_rooms PROPERTIES LINKER_LANGUAGE C)

if(TARGET allot_room_os_fake)
  set(objects ${ALLOT_ROOM_OBJECTS})
  list(REMOVE_ITEM objects $<TARGET_OBJECTS:allot_room_os>)
  add_library(allot_rooms_fake STATIC EXCLUDE_FROM_ALL ${objects} $<TARGET_OBJECTS:allot_room_os_fake>)
  set_target_properties(allot_rooms_fake PROPERTIES LINKER_LANGUAGE C)
endif()
