# fish completion for allot. The tool itself knows what may come: see allot complete in tool/complete.c.
function __allot_complete
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    for line in ($words[1] complete $words[2..-1] "$typed" 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path "$typed"
            case ':programs'
                __fish_complete_command
                __fish_complete_path "$typed"
            case ':command*'
                set -l skipped (string replace ':command ' '' -- $line)
                complete -C (string join ' ' -- (string escape -- $words[(math $skipped + 1)..-1]) "$typed")
            case '*'
                printf '%s\n' $line
        end
    end
end
complete -c allot -f -a '(__allot_complete)'
