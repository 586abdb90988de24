# Completion of quire for bash. The tool itself knows its flags and their values: QUIRE_COMPLETE= lists the flags of a
# command, QUIRE_COMPLETE=--flag what may follow that flag.
_quire() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} words=
    [ "$current" = = ] && current=
    if [ "$previous" = = ]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if [ "$COMP_CWORD" -eq 1 ]; then
        words=$("$1" --help 2>/dev/null | sed -n 's/^  \([a-z]\{2,\}\)  .*/\1/p')
    elif [[ $current == -* ]]; then
        words=$(QUIRE_COMPLETE='' "$1" "$command" 2>/dev/null </dev/null)
    elif [[ $previous == --* ]]; then
        words=$(QUIRE_COMPLETE=$previous "$1" "$command" 2>/dev/null </dev/null)
    elif [ "$command" = config ] && [ "$COMP_CWORD" -eq 2 ]; then
        words="print template keys schema diff"
    elif [ "$command" = kernel ] && [ "$COMP_CWORD" -eq 2 ]; then
        words="attention barrier limits projection rowwise scheduler step"
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    [ ${#COMPREPLY[@]} -gt 0 ] || mapfile -t COMPREPLY < <(compgen -f -- "$current")
    [[ ${COMPREPLY[0]} == *[=:] ]] && compopt -o nospace
}
complete -o filenames -F _quire quire
