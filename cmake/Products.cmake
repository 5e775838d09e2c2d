# What is made of the rooms.
#
#   liballot        every room and the standard names: a program's malloc
#   liballot_core   every room without them: allot_* beside whatever malloc the program has
#   allot_override  an object that gives static C++ programs their new handlers and std::bad_alloc
#
# The symbols allot_* carry the version ALLOT_0.1; the standard names carry none, as programs built against any libc ask
# for them. Everything else is hidden.
find_program(CMAKE_OBJCOPY objcopy REQUIRED)

# A shared library of these objects. Never unloaded (threads end in it), bound at load, and in need of libc alone.
function(allot_shared target output)
  add_library(${target} SHARED ${ARGN})
  set_target_properties(${target} PROPERTIES
    OUTPUT_NAME ${output} VERSION ${PROJECT_VERSION} SOVERSION 1 LINKER_LANGUAGE C
    LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/exports.map)
  target_include_directories(${target} INTERFACE
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_options(${target} PRIVATE
    LINKER:--version-script=${PROJECT_SOURCE_DIR}/cmake/exports.map
    LINKER:--eh-frame-hdr LINKER:-z,nodelete LINKER:-z,now LINKER:-z,relro LINKER:--as-needed LINKER:--exclude-libs,ALL -static-libgcc)
  if(NOT ALLOT_SANITIZE)
    target_link_options(${target} PRIVATE LINKER:-z,defs)
  endif()
endfunction()

# A static library of one object: who links one of its names gets all, and no libc name can come in beside them. Inner
# names become local, so that they collide with nothing.
function(allot_static target output)
  set(object ${CMAKE_CURRENT_BINARY_DIR}/${output}.o)
  add_custom_command(OUTPUT ${object}
    COMMAND ${CMAKE_LINKER} -r -o ${object} ${ARGN}
    COMMAND ${CMAKE_OBJCOPY} --localize-hidden ${object}
    DEPENDS ${ARGN} COMMAND_EXPAND_LISTS VERBATIM COMMENT "Joining ${output}.o")
  set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  add_library(${target} STATIC ${object})
  set_target_properties(${target} PROPERTIES OUTPUT_NAME ${output} LINKER_LANGUAGE C)
  target_include_directories(${target} INTERFACE
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endfunction()

allot_shared(allot_core allot_core ${ALLOT_ROOM_OBJECTS})
set(ALLOT_PRODUCTS allot_core)
if(ALLOT_NAME_OBJECTS)
  allot_shared(allot allot ${ALLOT_ROOM_OBJECTS} ${ALLOT_NAME_OBJECTS})
  allot_static(allot_static allot ${ALLOT_ROOM_OBJECTS} ${ALLOT_NAME_OBJECTS})
  allot_static(allot_core_static allot_core ${ALLOT_ROOM_OBJECTS})
  list(APPEND ALLOT_PRODUCTS allot allot_static allot_core_static)
  if(CMAKE_CXX_COMPILER AND EXISTS ${PROJECT_SOURCE_DIR}/src/malloc/override.cc)
    add_library(allot_override OBJECT ${PROJECT_SOURCE_DIR}/src/malloc/override.cc)
    target_link_libraries(allot_override PRIVATE $<BUILD_INTERFACE:allot_flags> PUBLIC allot_static)
    list(APPEND ALLOT_PRODUCTS allot_override)
  endif()
endif()
