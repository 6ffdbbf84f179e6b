# flagshm_man(man/flagctl.1.scd COMPONENT): the manual page, made by scdoc and compressed so that the same source gives the
# same bytes. Without scdoc the programs are installed without their manual.
find_program(FLAGSHM_SCDOC scdoc)
find_program(FLAGSHM_GZIP gzip)
mark_as_advanced(FLAGSHM_SCDOC FLAGSHM_GZIP)
if(FLAGSHM_INSTALL AND NOT (FLAGSHM_SCDOC AND FLAGSHM_GZIP))
    message(STATUS "flagshm: scdoc or gzip not found: no manual pages")
endif()

function(flagshm_man source component)
    if(NOT (FLAGSHM_SCDOC AND FLAGSHM_GZIP))
        return()
    endif()
    get_filename_component(page ${source} NAME_WLE)
    string(REGEX MATCH "[0-9]$" section ${page})
    set(built ${CMAKE_BINARY_DIR}/man/${page})
    add_custom_command(OUTPUT ${built}.gz
        COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/man
        COMMAND ${FLAGSHM_SCDOC} < ${CMAKE_CURRENT_SOURCE_DIR}/${source} > ${built}
        COMMAND ${FLAGSHM_GZIP} -9nkf ${built}
        DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${source}
        COMMENT "Manual page ${page}"
        VERBATIM)
    add_custom_target(man_${page} ALL DEPENDS ${built}.gz)
    install(FILES ${built}.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section} COMPONENT ${component})
endfunction()
