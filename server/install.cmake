# What a host gets: the two programs, their manual and completions, the schema, and what systemd needs to know.
# All below the prefix; nothing is written to /etc or to the state directory.
install(TARGETS flagshmd RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR} COMPONENT server)
install(TARGETS flagctl RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT server)
install(FILES ${CMAKE_CURRENT_SOURCE_DIR}/server/flags.schema.json
    DESTINATION ${CMAKE_INSTALL_DATADIR}/flagshm COMPONENT server)
install(FILES ${CMAKE_CURRENT_SOURCE_DIR}/tests/data/good/seed.json
    DESTINATION ${CMAKE_INSTALL_DATADIR}/flagshm RENAME flags.example.json COMPONENT server)

flagshm_man(server/man/flagshmd.8.scd server)
flagshm_man(server/man/flagshm-flags.5.scd server)
flagshm_man(server/man/flagshm-notify.5.scd server)
flagshm_man(tools/man/flagctl.1.scd server)

# systemd looks into lib/ of /usr and /usr/local, never into lib/TRIPLET. The unit names the programs by their whole path,
# so it is written when the prefix is certain: cmake --install --prefix may differ from the one of the configuration.
install(CODE "set(flagshm_unit_in \"${CMAKE_CURRENT_SOURCE_DIR}/server/flagshmd.service.in\")
set(flagshm_unit_dir \"${CMAKE_CURRENT_BINARY_DIR}/unit\")
set(FLAGSHM_SBINDIR \"${CMAKE_INSTALL_SBINDIR}\")
set(FLAGSHM_BINDIR \"${CMAKE_INSTALL_BINDIR}\")"
    COMPONENT server)
install(CODE [[
    foreach(directory FLAGSHM_SBINDIR FLAGSHM_BINDIR)
        if(NOT IS_ABSOLUTE "${${directory}}")
            set(${directory} "${CMAKE_INSTALL_PREFIX}/${${directory}}")
        endif()
    endforeach()
    # A directory for each prefix: two installations may run at once.
    string(MD5 flagshm_unit "${CMAKE_INSTALL_PREFIX}")
    set(flagshm_unit "${flagshm_unit_dir}/${flagshm_unit}/flagshmd.service")
    configure_file("${flagshm_unit_in}" "${flagshm_unit}" @ONLY)
    file(INSTALL DESTINATION "${CMAKE_INSTALL_PREFIX}/lib/systemd/system" TYPE FILE FILES "${flagshm_unit}")
]] COMPONENT server)
install(FILES ${CMAKE_CURRENT_SOURCE_DIR}/server/flagshmd.sysusers
    DESTINATION lib/sysusers.d RENAME flagshm.conf COMPONENT server)
install(FILES ${CMAKE_CURRENT_SOURCE_DIR}/server/flagshmd.tmpfiles
    DESTINATION lib/tmpfiles.d RENAME flagshm.conf COMPONENT server)

# Completions are what the built flagctl prints, so they cannot disagree with it. Cross-compiled, they are left out.
if(NOT CMAKE_CROSSCOMPILING)
    set(flagshm_completions)
    foreach(shell bash zsh fish)
        set(built ${CMAKE_CURRENT_BINARY_DIR}/completions/flagctl.${shell})
        add_custom_command(OUTPUT ${built}
            COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_CURRENT_BINARY_DIR}/completions
            COMMAND flagctl completion ${shell} > ${built}.new
            COMMAND ${CMAKE_COMMAND} -E rename ${built}.new ${built}
            DEPENDS flagctl
            COMMENT "Completion for ${shell}"
            VERBATIM)
        list(APPEND flagshm_completions ${built})
    endforeach()
    add_custom_target(flagshm_completions ALL DEPENDS ${flagshm_completions})
    install(FILES ${CMAKE_CURRENT_BINARY_DIR}/completions/flagctl.bash
        DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME flagctl COMPONENT server)
    install(FILES ${CMAKE_CURRENT_BINARY_DIR}/completions/flagctl.zsh
        DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions RENAME _flagctl COMPONENT server)
    install(FILES ${CMAKE_CURRENT_BINARY_DIR}/completions/flagctl.fish
        DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d RENAME flagctl.fish COMPONENT server)
endif()
