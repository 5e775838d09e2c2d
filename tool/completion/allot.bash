# bash completion for allot. The tool itself knows what may come: see allot complete in tool/complete.c.
_allot() {
    local word=${COMP_WORDS[COMP_CWORD]} line i
    local -a words=()
    # bash takes --name=value apart; the tool wants it whole.
    for ((i = 1; i <= COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == = && ${#words[@]} -gt 0 ]]; then
            words[-1]+="="
        elif [[ ${#words[@]} -gt 0 && ${words[-1]} == --*= && ${COMP_WORDS[i - 1]} == = ]]; then
            words[-1]+=${COMP_WORDS[i]}
        else
            words+=("${COMP_WORDS[i]}")
        fi
    done
    local typed=${words[-1]}
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
        :files) mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- "$word") ;;
        :programs) mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -c -f -- "$word") ;;
        :command*)
            declare -F _command_offset >/dev/null && _command_offset "${line#:command }"
            return
            ;;
        *)
            line=${line%%$'\t'*}
            COMPREPLY+=("${line#"${typed%"${word#=}"}"}")
            ;;
        esac
    done < <("${COMP_WORDS[0]}" complete "${words[@]}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -ne 1 || ${COMPREPLY[0]} != *= ]] || compopt -o nospace 2>/dev/null
}
complete -o filenames -F _allot allot
