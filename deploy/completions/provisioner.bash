# bash completion for provisioner; made by `provisioner help --format bash`.
_provisioner() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' options='' i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --config) ((i++)) ;;
        -*) ;;
        *) command=${COMP_WORDS[i]}; break ;;
        esac
    done
    case $command:$prev in
    *:--config) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    submit:--timeout) return ;;
    jobs:--state) mapfile -t COMPREPLY < <(compgen -W 'queued running retrying held failed superseded succeeded cancelled' -- "$cur"); return ;;
    jobs:--organization) return ;;
    jobs:--error) return ;;
    jobs:--since) return ;;
    jobs:--limit) return ;;
    orders:--state) mapfile -t COMPREPLY < <(compgen -W 'hinted left taken reported dropped' -- "$cur"); return ;;
    orders:--organization) return ;;
    orders:--limit) return ;;
    backfill:--since) return ;;
    replay:--state) mapfile -t COMPREPLY < <(compgen -W 'failed cancelled' -- "$cur"); return ;;
    replay:--organization) return ;;
    replay:--error) return ;;
    replay:--since) return ;;
    replay:--limit) return ;;
    replay:--from-step) mapfile -t COMPREPLY < <(compgen -W 'name announce collection workspace api_key record report close_workspace open_workspace revoke archive chat_history' -- "$cur"); return ;;
    replay:--rate) return ;;
    replay:--wait) return ;;
    cancel:--reason) return ;;
    pause:--runtime) return ;;
    pause:--organization) return ;;
    pause:--subscription) return ;;
    pause:--reason) return ;;
    resume:--runtime) return ;;
    resume:--organization) return ;;
    resume:--subscription) return ;;
    retention:--now) return ;;
    retention:--limit) return ;;
    retention:--wait) return ;;
    dead-letters:--state) mapfile -t COMPREPLY < <(compgen -W 'new replayed discarded all' -- "$cur"); return ;;
    dead-letters:--limit) return ;;
    doctor:--timeout) return ;;
    help:--format) mapfile -t COMPREPLY < <(compgen -W 'text man bash' -- "$cur"); return ;;
    esac
    if [[ $cur == -* ]]; then
        case $command in
        '') options='--config --help --version' ;;
        run) options='--config --help' ;;
        migrate) options='--config --help --check --json' ;;
        submit) options='--config --help --direct --skip-invalid --timeout --json' ;;
        jobs) options='--config --help --state --organization --error --since --limit --json' ;;
        orders) options='--config --help --state --organization --limit --json' ;;
        backfill) options='--config --help --since --json' ;;
        show) options='--config --help --json' ;;
        replay) options='--config --help --state --organization --error --since --limit --from-step --dry-run --rate --wait --no-wait --yes --json' ;;
        cancel) options='--config --help --reason --json' ;;
        pause) options='--config --help --all --runtime --organization --subscription --reason --json' ;;
        resume) options='--config --help --all --runtime --organization --subscription --json' ;;
        retention) options='--config --help --dry-run --now --limit --wait --json' ;;
        dead-letters) options='--config --help --state --limit --all --yes --json' ;;
        doctor) options='--config --help --timeout --json' ;;
        config) options='--config --help --json' ;;
        graph) options='--config --help' ;;
        version) options='--config --help --json' ;;
        help) options='--config --help --format' ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        return
    fi
    case $command in
    '') mapfile -t COMPREPLY < <(compgen -W 'run migrate submit jobs orders backfill show replay cancel pause resume retention dead-letters doctor config graph version help' -- "$cur") ;;
    submit) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    dead-letters) mapfile -t COMPREPLY < <(compgen -W 'list show replay discard' -- "$cur") ;;
    doctor) mapfile -t COMPREPLY < <(compgen -W 'configuration database kafka waldur' -- "$cur") ;;
    help) mapfile -t COMPREPLY < <(compgen -W 'run migrate submit jobs orders backfill show replay retention dead-letters doctor config graph version' -- "$cur") ;;
    esac
}
complete -F _provisioner provisioner
