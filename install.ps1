# Installs Xiaozao for one person on Windows: a private Python environment, the torch that fits the driver, the command
# `zao` and an entry in the Start menu. No compiler, no administrator. Run it again to upgrade.
#     powershell -ExecutionPolicy Bypass -File install.ps1 [-Mirror tuna] [-DryRun]
# Works with Windows PowerShell 5.1 and PowerShell 7; macOS and Linux have install.sh.
[CmdletBinding()]
param(
    [string]$Source = '',      # a checkout or a wheel; default: this checkout, else xiaozao from the package index
    [string]$Prefix = '',      # where the private environment goes
    [string]$Python = '',      # the Python 3.11 or newer to use
    [string]$Mirror = '',      # tuna, aliyun, ustc, or the URL of an index
    [string]$Torch = '',       # cpu, cu126, cu128 or cu130, instead of what the driver says
    [string]$TorchIndex = '',  # the index that has this torch
    [string]$TorchSpec = '',   # install exactly this (torch==2.9.1) from the usual index
    [switch]$AddToPath,        # put the command on this user's PATH
    [switch]$DryRun            # print what would be done, and do nothing
)
$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 2.0

$language = $env:ZAO_LANG
if (-not $language) { $language = (Get-Culture).Name }
$chinese = $language -like 'zh*'
function Say([string]$English, [string]$Chinese) { if ($script:chinese) { Write-Host $Chinese } else { Write-Host $English } }
function Fail([int]$Code, [string]$English, [string]$Chinese) {
    if ($script:chinese) { [Console]::Error.WriteLine("错误：$Chinese") } else { [Console]::Error.WriteLine("Error: $English") }
    exit $Code
}
function Run([string]$Program, [string[]]$Arguments) {
    if ($script:DryRun) { Write-Host "+ $Program $($Arguments -join ' ')"; return $true }
    # A native program's progress on stderr must not count as an error; its exit code decides.
    $before = $ErrorActionPreference
    $ErrorActionPreference = 'Continue'
    & $Program @Arguments | Out-Host
    $ErrorActionPreference = $before
    return $LASTEXITCODE -eq 0
}

# --- where ---------------------------------------------------------------------------------------------------------

if (-not $Prefix) { $Prefix = Join-Path $env:LOCALAPPDATA 'xiaozao\app' }
$Prefix = [IO.Path]::GetFullPath($Prefix)
$venv = Join-Path $Prefix 'venv'
$inside = Join-Path $venv 'Scripts\python.exe'
$bin = Join-Path $Prefix 'bin'
if (-not $Source) {
    $here = $PSScriptRoot
    if ($here -and (Test-Path (Join-Path $here 'pyproject.toml')) -and (Test-Path (Join-Path $here 'src\xiaozao'))) {
        $Source = $here
    } else { $Source = 'xiaozao' }
} elseif (Test-Path $Source) { $Source = (Resolve-Path $Source).Path }
else { Fail 8 "there is no $Source" "$Source 不存在" }

# --- Python --------------------------------------------------------------------------------------------------------

function Test-Python([string[]]$Command) {
    $check = 'import sys; sys.exit(not (sys.version_info >= (3, 11) and sys.maxsize > 2**32))'
    $rest = @($Command | Select-Object -Skip 1) + @('-c', $check)
    try { & $Command[0] @rest 2>$null | Out-Null } catch { return $false }
    return $LASTEXITCODE -eq 0
}
$found = $null
if ($Python) {
    if (-not (Test-Python @($Python))) { Fail 9 "$Python is not a 64-bit Python 3.11 or newer" "$Python 不是 64 位的 Python 3.11 或更新版本" }
    $found = @($Python)
} else {
    # The Microsoft Store puts a `python` on the PATH that only opens the Store; it fails the check.
    foreach ($candidate in @(@('py', '-3.12'), @('py', '-3.13'), @('py', '-3.11'), @('py', '-3'), @('python'), @('python3'))) {
        if ((Get-Command $candidate[0] -ErrorAction SilentlyContinue) -and (Test-Python $candidate)) { $found = $candidate; break }
    }
}
if (-not $found) {
    Fail 9 'Python 3.11 or newer (64 bit) is needed. Get it: winget install Python.Python.3.12' `
        '需要 64 位的 Python 3.11 或更新版本。获取方式：winget install Python.Python.3.12'
}

# --- mirrors -------------------------------------------------------------------------------------------------------

$index = ''; $extras = ''; $torchBase = 'https://download.pytorch.org/whl'; $torchFlat = ''
switch -Regex ($Mirror) {
    '^$' { break }
    '^tuna$' { $index = 'https://pypi.tuna.tsinghua.edu.cn/simple'; $torchBase = 'https://mirrors.nju.edu.cn/pytorch/whl'; $extras = '[modelscope]'; break }
    '^ustc$' { $index = 'https://mirrors.ustc.edu.cn/pypi/simple'; $torchBase = 'https://mirrors.nju.edu.cn/pytorch/whl'; $extras = '[modelscope]'; break }
    '^aliyun$' { $index = 'https://mirrors.aliyun.com/pypi/simple'; $torchFlat = 'https://mirrors.aliyun.com/pytorch-wheels'; $extras = '[modelscope]'; break }
    '^(https?|file)://' { $index = $Mirror; break }
    default { Fail 2 "unknown mirror $Mirror; known: tuna, aliyun, ustc, or a URL" "未知镜像 $Mirror；可用：tuna、aliyun、ustc 或镜像地址" }
}

# --- which torch ---------------------------------------------------------------------------------------------------

function Get-Build {
    if (-not (Get-Command nvidia-smi -ErrorAction SilentlyContinue)) { return 'cpu' }
    $driver = "$(& nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>$null | Select-Object -First 1)".Trim()
    $lowest = "$(& nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>$null | Sort-Object { [double]('0' + ($_ -replace '[^0-9.]', '')) } | Select-Object -First 1)".Trim()
    if ($driver -notmatch '^(\d+)') { return 'cpu' }
    $major = [int]$Matches[1]
    $capability = 75
    if ($lowest -match '^(\d+)\.(\d+)$') { $capability = [int]("$($Matches[1])$($Matches[2])") }
    if ($major -ge 580 -and $capability -ge 75) { return 'cu130' }
    if ($major -ge 570 -and $capability -ge 70) { return 'cu128' }
    if ($major -ge 528 -and $capability -ge 50) { return 'cu126' }
    return 'old'
}
if (-not $Torch) { $Torch = Get-Build }
if ($Torch -eq 'old') {
    Say 'The NVIDIA driver or card is too old for current torch; the CPU build is installed. Update the driver and run this again.' `
        'NVIDIA 驱动或显卡过旧，无法使用当前的 torch，将安装 CPU 版本。更新驱动后可重新运行本脚本。'
    $Torch = 'cpu'
}
if (@('cpu', 'cu126', 'cu128', 'cu130') -notcontains $Torch) {
    Fail 2 "unknown torch build $Torch; known: cpu, cu126, cu128, cu130" "未知的 torch 构建 $Torch；可用：cpu、cu126、cu128、cu130"
}
$shown = $Torch
if ($TorchSpec) { $shown = $TorchSpec }
Say "Python:  $($found -join ' ')" "Python：  $($found -join ' ')"
Say "torch:   $shown" "torch：   $shown"
Say "from:    $Source" "来源：    $Source"
Say "into:    $Prefix" "安装到：  $Prefix"

# --- doing it ------------------------------------------------------------------------------------------------------

function Pip([string[]]$Arguments) {
    $all = @('-m', 'pip', 'install', '--disable-pip-version-check', '--quiet', '--upgrade') + $Arguments
    if (-not (Run $script:inside $all)) {
        Fail 7 'pip could not install; try another mirror: -Mirror tuna, aliyun or ustc' 'pip 安装失败；可换一个镜像：-Mirror tuna、aliyun 或 ustc'
    }
}
if ((Test-Path $inside) -and (Test-Python @($inside))) {
    Say 'Upgrading what is there' '升级已有安装'
} else {
    $rest = @($found | Select-Object -Skip 1) + @('-m', 'venv', '--clear', $venv)
    if (-not (Run $found[0] $rest)) { Fail 9 "no environment could be made in $venv" "无法在 $venv 创建虚拟环境" }
}
if ($index) {
    # Beside the environment's Python pip finds it later, too: zao fetches pypi: models through this mirror.
    if ($DryRun) { Write-Host "+ index-url = $index > $venv\pip.ini" }
    else { [IO.File]::WriteAllText((Join-Path $venv 'pip.ini'), "[global]`r`nindex-url = $index`r`n") }
}
# On Windows plain `pip install torch` is a CPU build, so the index is always named.
if ($TorchSpec) { Pip @($TorchSpec) }
elseif ($TorchIndex) { Pip @('torch>=2.9', '--index-url', $TorchIndex) }
# A flat list of wheels has none of torch's dependencies; the next step brings them from the package index.
elseif ($torchFlat) { Pip @('torch>=2.9', '--no-deps', '--no-index', '--find-links', "$torchFlat/$Torch/") }
else { Pip @('torch>=2.9', '--index-url', "$torchBase/$Torch") }
Pip @('--upgrade-strategy', 'only-if-needed', "$Source$extras")

# --- the command and the Start menu --------------------------------------------------------------------------------

$command = Join-Path $bin 'zao.cmd'
$shortcut = Join-Path ([Environment]::GetFolderPath('Programs')) 'Xiaozao.lnk'
if ($DryRun) {
    Write-Host "+ write $command"
    Write-Host "+ write $shortcut"
    if ($AddToPath) { Write-Host "+ add $bin to the user's PATH" }
    Write-Host "+ write $(Join-Path $Prefix 'install.json')"
    exit 0
}
New-Item -ItemType Directory -Force -Path $bin | Out-Null
# Relative, so that a user name in Chinese letters never stands in a file that cmd reads in the system's code page.
[IO.File]::WriteAllText($command, "@`"%~dp0..\venv\Scripts\zao.exe`" %*`r`n")
$shell = New-Object -ComObject WScript.Shell
$link = $shell.CreateShortcut($shortcut)
$link.TargetPath = $env:ComSpec
$link.Arguments = "/k `"`"$venv\Scripts\zao.exe`" --help`""
$link.WorkingDirectory = [Environment]::GetFolderPath('MyDocuments')
$link.Description = 'Xiaozao'
$link.Save()
$record = @{ launchers = @($command, $shortcut) } | ConvertTo-Json
[IO.File]::WriteAllText((Join-Path $Prefix 'install.json'), $record)
if ($AddToPath) {
    $path = [Environment]::GetEnvironmentVariable('Path', 'User')
    if (";$path;" -notlike "*;$bin;*") { [Environment]::SetEnvironmentVariable('Path', "$path;$bin".TrimStart(';'), 'User') }
}
Run $inside @('-m', 'xiaozao.cli', 'doctor', '--offline') | Out-Null
Say "Done. Open Xiaozao in the Start menu, or: $command demo" "安装完成。从开始菜单打开 Xiaozao，或运行：$command demo"
if (-not $AddToPath) { Say "To have zao everywhere: run this again with -AddToPath" "想在任何位置使用 zao：加上 -AddToPath 重新运行" }
