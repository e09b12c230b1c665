# bash completion for provisioner(1)

_provisioner_options()
{
    case $1 in
    migrate) echo --check ;;
    jobs) echo --state --organization --error --since --limit --json ;;
    show | doctor) echo --json ;;
    config | version) echo --json ;;
    submit) echo --direct --json ;;
    replay)
        echo --state --organization --error --since --limit --from-step --dry-run --rate --yes --json
        ;;
    pause | resume) echo --all --runtime --organization --subscription ;;
    dead-letters) echo --limit --json ;;
    retention) echo --dry-run --now --limit --json ;;
    reconcile) echo --repair --json ;;
    esac
}

_provisioner_words()
{
    case $1 in
    dead-letters) echo list show replay discard ;;
    keys) echo rotate revoke ;;
    help) echo "$_provisioner_commands" ;;
    esac
}

_provisioner_commands="run migrate submit jobs show replay cancel pause resume dead-letters retention
reconcile keys doctor graph config version help"

_provisioner_values()
{
    case $1 in
    --state) echo queued running retrying held failed superseded succeeded cancelled ;;
    --error)
        echo invalid unavailable unknown throttled unauthorized refused conflict gone internal
        ;;
    --from-step)
        echo name announce collection workspace api_key record report revoke close_workspace \
            open_workspace archive chat_history
        ;;
    esac
}

_provisioner()
{
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command="" i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --config) ((i++)) ;;
        -*) ;;
        *)
            command=${COMP_WORDS[i]}
            break
            ;;
        esac
    done
    case $before in
    --config)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    --state | --error | --from-step)
        mapfile -t COMPREPLY < <(compgen -W "$(_provisioner_values "$before")" -- "$word")
        return
        ;;
    --organization | --since | --limit | --rate | --now | --runtime | --subscription) return ;;
    esac
    if [[ -z $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$_provisioner_commands --config --help --version" -- "$word")
    elif [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_provisioner_options "$command") --config --help" -- "$word")
    elif [[ $command == submit ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    elif ((COMP_CWORD == i + 1)); then
        mapfile -t COMPREPLY < <(compgen -W "$(_provisioner_words "$command")" -- "$word")
    fi
}

complete -o filenames -F _provisioner provisioner
