#!/bin/sh
# Installs Xiaozao for one person on macOS or Linux: a private Python environment, the torch that fits the driver, and
# the command `zao`. No make, no compiler, no root. Run it again to upgrade. `sh install.sh --help` lists the options.
# Plain POSIX sh (dash, bash 3.2); Windows has install.ps1.
set -eu

# --- words ---------------------------------------------------------------------------------------------------------

language=${ZAO_LANG:-${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}}
if [ -z "$language" ] && [ "$(uname -s)" = Darwin ]; then
    language=$(defaults read -g AppleLocale 2>/dev/null || true)
fi
say() { # say ENGLISH CHINESE
    case $language in
        zh*) printf '%s\n' "$2" ;;
        *) printf '%s\n' "$1" ;;
    esac
}
fail() { # fail CODE ENGLISH CHINESE
    code=$1
    shift
    say "Error: $1" "错误：$2" >&2
    exit "$code"
}
help() {
    say "Usage: sh install.sh [OPTIONS]

  --source DIR|WHEEL    what to install; this checkout when there is one, else xiaozao from the package index
  --prefix DIR          where the private environment goes
  --bin DIR             where the command zao goes (default: ~/.local/bin)
  --python PATH         the Python 3.11 or newer to use
  --mirror NAME|URL     package mirror: tuna, aliyun, ustc, or the URL of an index
  --torch BUILD         torch for cpu, cu126, cu128 or cu130, instead of what the driver says
  --torch-index URL     the index that has this torch
  --torch-spec SPEC     install exactly this (torch==2.9.1) from the usual index
  --dry-run             print what would be done, and do nothing" \
        "用法：sh install.sh [选项]

  --source 目录|WHEEL   安装来源；默认为本源码目录，没有则从软件源安装 xiaozao
  --prefix 目录         独立环境的位置
  --bin 目录            zao 命令的位置（默认 ~/.local/bin）
  --python 路径         使用的 Python（3.11 或更新）
  --mirror 名称|URL     软件源镜像：tuna、aliyun、ustc，或镜像地址
  --torch 构建          指定 torch 构建：cpu、cu126、cu128 或 cu130；默认按驱动选择
  --torch-index URL     提供该 torch 的软件源
  --torch-spec 说明     从常用软件源安装指定版本（如 torch==2.9.1）
  --dry-run             只打印将执行的操作"
}

# --- options -------------------------------------------------------------------------------------------------------

source='' prefix='' bin="$HOME/.local/bin" python='' mirror='' build='' torch_index='' torch_spec='' dry=''
while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry=1 ;;
        -h | --help) help; exit 0 ;;
        --source | --prefix | --bin | --python | --mirror | --torch | --torch-index | --torch-spec)
            [ $# -ge 2 ] || fail 2 "$1 needs a value" "$1 需要一个值"
            case $1 in
                --source) source=$2 ;;
                --prefix) prefix=$2 ;;
                --bin) bin=$2 ;;
                --python) python=$2 ;;
                --mirror) mirror=$2 ;;
                --torch) build=$2 ;;
                --torch-index) torch_index=$2 ;;
                --torch-spec) torch_spec=$2 ;;
            esac
            shift ;;
        *) fail 2 "unknown option $1; see --help" "未知选项 $1；参见 --help" ;;
    esac
    shift
done

run() { # run COMMAND...: does it, or with --dry-run says it
    if [ -n "$dry" ]; then
        printf '+'
        printf ' %s' "$@"
        printf '\n'
    else
        "$@"
    fi
}
absolute() { case $1 in /*) printf '%s' "$1" ;; *) printf '%s/%s' "$(pwd)" "$1" ;; esac; }

# --- where ---------------------------------------------------------------------------------------------------------

system=$(uname -s)
case $system in
    Darwin) data="$HOME/Library/Application Support/xiaozao" ;;
    Linux) data="${XDG_DATA_HOME:-$HOME/.local/share}/xiaozao" ;;
    *) fail 9 "this script is for macOS and Linux; on Windows use install.ps1" "本脚本用于 macOS 和 Linux；Windows 请使用 install.ps1" ;;
esac
prefix=$(absolute "${prefix:-$data/app}")
bin=$(absolute "$bin")
venv=$prefix/venv

if [ -z "$source" ]; then
    here=$(CDPATH='' cd -- "$(dirname -- "$0")" 2>/dev/null && pwd || true)
    if [ -n "$here" ] && [ -f "$here/pyproject.toml" ] && [ -d "$here/src/xiaozao" ]; then source=$here; else source=xiaozao; fi
elif [ -e "$source" ]; then
    source=$(absolute "$source")
else
    fail 8 "there is no $source" "$source 不存在"
fi

# --- Python --------------------------------------------------------------------------------------------------------

good_python() { "$1" -c 'import sys; sys.exit(not (sys.version_info >= (3, 11) and sys.maxsize > 2**32))' >/dev/null 2>&1; }
if [ -n "$python" ]; then
    good_python "$python" || fail 9 "$python is not a 64-bit Python 3.11 or newer" "$python 不是 64 位的 Python 3.11 或更新版本"
else
    for name in python3.12 python3.13 python3.11 python3.14 python3 python; do
        if command -v "$name" >/dev/null 2>&1 && good_python "$name"; then python=$(command -v "$name"); break; fi
    done
fi
if [ -z "$python" ]; then
    if [ "$system" = Darwin ]; then
        how='brew install python@3.12, or https://www.python.org/downloads/'
    elif command -v apt-get >/dev/null 2>&1; then
        how='sudo apt-get install python3 python3-venv, or: uv python install 3.12'
    elif command -v dnf >/dev/null 2>&1; then
        how='sudo dnf install python3.12, or: uv python install 3.12'
    else
        how='https://www.python.org/downloads/, or: uv python install 3.12'
    fi
    fail 9 "Python 3.11 or newer is needed. Get it: $how" "需要 Python 3.11 或更新版本。获取方式：$how"
fi
"$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
    fail 9 "$python cannot make environments. On Debian and Ubuntu: sudo apt-get install python3-venv" \
        "$python 无法创建虚拟环境。Debian/Ubuntu 请运行：sudo apt-get install python3-venv"

# --- mirrors -------------------------------------------------------------------------------------------------------

index='' extras='' torch_base=https://download.pytorch.org/whl torch_flat=''
case $mirror in
    '') ;;
    tuna) index=https://pypi.tuna.tsinghua.edu.cn/simple torch_base=https://mirrors.nju.edu.cn/pytorch/whl ;;
    ustc) index=https://mirrors.ustc.edu.cn/pypi/simple torch_base=https://mirrors.nju.edu.cn/pytorch/whl ;;
    aliyun) index=https://mirrors.aliyun.com/pypi/simple torch_flat=https://mirrors.aliyun.com/pytorch-wheels ;;
    http://* | https://* | file://*) index=$mirror ;;
    *) fail 2 "unknown mirror $mirror; known: tuna, aliyun, ustc, or a URL" "未知镜像 $mirror；可用：tuna、aliyun、ustc 或镜像地址" ;;
esac
case $mirror in tuna | ustc | aliyun) extras='[modelscope]' ;; esac

# --- which torch ---------------------------------------------------------------------------------------------------

newest_build() { # newest_build DRIVER CAPABILITY: the newest build of torch that both can run
    major=${1%%.*} capability=$(printf '%s' "$2" | tr -d .)
    if [ "$major" -ge 580 ] && [ "$capability" -ge 75 ]; then echo cu130
    elif [ "$major" -ge 570 ] && [ "$capability" -ge 70 ]; then echo cu128
    elif [ "$major" -ge 525 ] && [ "$capability" -ge 50 ]; then echo cu126
    else echo old; fi
}
detect_build() {
    [ "$system" = Darwin ] && { echo mac; return; }
    command -v nvidia-smi >/dev/null 2>&1 || { echo cpu; return; }
    driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1 | tr -d ' \r')
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d ' \r' | sort -n | head -n 1)
    case $driver in [0-9]*) ;; *) echo cpu; return ;; esac
    case $capability in [0-9]*.[0-9]*) ;; *) capability=7.5 ;; esac # drivers that old do not say
    newest_build "$driver" "$capability"
}
build=${build:-$(detect_build)}
case $build in
    old)
        say "The NVIDIA driver or card is too old for current torch; the CPU build is installed. Update the driver and run this again." \
            "NVIDIA 驱动或显卡过旧，无法使用当前的 torch，将安装 CPU 版本。更新驱动后可重新运行本脚本。" >&2
        build=cpu ;;
    mac | cpu | cu126 | cu128 | cu130) ;;
    *) fail 2 "unknown torch build $build; known: cpu, cu126, cu128, cu130" "未知的 torch 构建 $build；可用：cpu、cu126、cu128、cu130" ;;
esac

say "Python:  $python" "Python：  $python"
say "torch:   ${torch_spec:-$build}" "torch：   ${torch_spec:-$build}"
say "from:    $source" "来源：    $source"
say "into:    $prefix" "安装到：  $prefix"

# --- room ----------------------------------------------------------------------------------------------------------

case $build in cu*) needed=9 ;; *) needed=3 ;; esac
existing=$prefix
while [ ! -d "$existing" ]; do existing=$(dirname -- "$existing"); done
free=$(df -Pk "$existing" | awk 'NR == 2 { print int($4 / 1000000) }')
[ "$free" -ge "$needed" ] ||
    fail 9 "$needed GB are needed at $existing, $free GB are free" "$existing 需要 $needed GB，只剩 $free GB"

# --- doing it ------------------------------------------------------------------------------------------------------

pip() { # pip ARGUMENTS...: install with the private environment's own pip
    run "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --upgrade "$@" ||
        fail 7 "pip could not install; try another mirror: --mirror tuna, aliyun or ustc" \
            "pip 安装失败；可换一个镜像：--mirror tuna、aliyun 或 ustc"
}
if [ -x "$venv/bin/python" ] && good_python "$venv/bin/python"; then
    say "Upgrading what is there" "升级已有安装"
else
    run "$python" -m venv --clear "$venv"
fi
if [ -n "$index" ]; then
    # Beside the environment's Python pip finds it later, too: zao fetches pypi: models through this mirror.
    if [ -n "$dry" ]; then echo "+ index-url = $index > $venv/pip.conf"; else printf '[global]\nindex-url = %s\n' "$index" >"$venv/pip.conf"; fi
fi
if [ -n "$torch_spec" ]; then pip "$torch_spec"
elif [ -n "$torch_index" ]; then pip 'torch>=2.9' --index-url "$torch_index"
elif [ "$build" = mac ]; then pip 'torch>=2.9'
# A flat list of wheels has none of torch's dependencies; the next step brings them from the package index.
elif [ -n "$torch_flat" ]; then pip 'torch>=2.9' --no-deps --no-index --find-links "$torch_flat/$build/"
else pip 'torch>=2.9' --index-url "$torch_base/$build"; fi
run "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --upgrade --upgrade-strategy only-if-needed \
    "$source$extras" || fail 7 "pip could not install xiaozao" "pip 未能安装 xiaozao"

# --- the command ---------------------------------------------------------------------------------------------------

launcher=$bin/zao
target=$(readlink "$launcher" 2>/dev/null || true)
if { [ -e "$launcher" ] || [ -L "$launcher" ]; } && [ "$target" != "$venv/bin/zao" ]; then
    say "$launcher is there already and was not made by this script; start Xiaozao with $venv/bin/zao" \
        "$launcher 已存在且不是本脚本创建的；请用 $venv/bin/zao 启动" >&2
    launcher=''
else
    run mkdir -p "$bin"
    run ln -sf "$venv/bin/zao" "$launcher"
fi
if [ -n "$dry" ]; then
    echo "+ write $prefix/install.json"
    exit 0
fi
"$venv/bin/python" - "$prefix/install.json" "$launcher" <<'PYTHON'
import json, sys
record, launcher = sys.argv[1:]
with open(record, "w", encoding="utf-8") as file:
    json.dump({"launchers": [launcher] if launcher else []}, file)
PYTHON
"$venv/bin/zao" doctor --offline || true
case ":$PATH:" in
    *":$bin:"*) say "Done. Start with: zao demo" "安装完成。开始使用：zao demo" ;;
    *) say "Done. Put $bin on your PATH, then: zao demo   (or now: $venv/bin/zao demo)" \
        "安装完成。请将 $bin 加入 PATH，然后运行：zao demo（或直接运行：$venv/bin/zao demo）" ;;
esac
