#!/usr/bin/env bash
# install-apptainer.sh PREFIX: Apptainer in a folder of its own, from Debian, on a machine without it.
# Needs Debian's apt, patchelf and squashfs-tools. Nothing outside PREFIX changes. Put PREFIX/usr/bin on PATH afterwards.
#
# Only Debian's unstable suite (sid) has Apptainer. Its programs are built for sid's C library, so that library is
# fetched with them, whatever version sid has today, and patchelf points them at it. apt checks both packages' signatures.
# PREFIX must not lie below /tmp: Apptainer keeps its session folder, with mounts in it, below the prefix.
set -euo pipefail
fail() { printf 'install-apptainer: %s\n' "$@" >&2; exit 1; }

[ $# = 1 ] || fail "expected one argument, the prefix: bash containers/install-apptainer.sh /opt/apptainer"
prefix=$(realpath -m "$1")
case $prefix/ in
  /tmp/* | /var/tmp/* | /dev/*) fail "expected a prefix outside /tmp, /var/tmp and /dev, found $prefix" ;;
esac
if "$prefix/usr/bin/apptainer" --version 2> /dev/null; then exit 0; fi
for tool in apt-get dpkg-deb patchelf mksquashfs; do
  command -v $tool > /dev/null || fail "$tool is missing. On Debian: apt-get install -y --no-install-recommends patchelf squashfs-tools"
done

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs"
: > "$work/status"
# The mirror that this machine's apt uses already; DEBIAN_MIRROR names another
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 'debian/$' || true)}
[ -n "$mirror" ] || fail "apt knows no mirror of Debian. Run apt-get update, or name one: DEBIAN_MIRROR=<address>"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" > "$work/sources.list"
own=(-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::Preferences=/dev/null
  -o Dir::Etc::PreferencesParts=/dev/null -o "Dir::State::Lists=$work/lists" -o "Dir::State::Status=$work/status"
  -o "Dir::Cache=$work/cache" -o Acquire::Languages=none -o APT::Sandbox::User=root)
apt-get "${own[@]}" -qq update
(cd "$work/debs" && apt-get "${own[@]}" -qq download apptainer libc6)

mkdir -p "$prefix/glibc"
dpkg-deb -x "$work"/debs/apptainer_*.deb "$prefix"
dpkg-deb -x "$work"/debs/libc6_*.deb "$prefix/glibc"
libraries=$prefix/glibc/usr/lib/x86_64-linux-gnu
for program in "$prefix/usr/bin/apptainer" "$prefix/usr/lib/x86_64-linux-gnu/apptainer/bin/starter"; do
  patchelf --set-interpreter "$libraries/ld-linux-x86-64.so.2" \
    --set-rpath "$libraries:/usr/lib/x86_64-linux-gnu:/lib/x86_64-linux-gnu" "$program"
done
# Apptainer looks for etc and var below its own prefix, the starter below usr/lib
mkdir -p "$prefix/usr/etc" "$prefix/usr/var"
[ -e "$prefix/usr/etc/apptainer" ] || mv "$prefix/etc/apptainer" "$prefix/usr/etc/"
[ -e "$prefix/usr/var/lib" ] || mv "$prefix/var/lib" "$prefix/usr/var/"
ln -sfn ../etc "$prefix/usr/lib/etc"
ln -sfn ../var "$prefix/usr/lib/var"
# A virtual machine's root may lack capabilities that Apptainer asks for by default
sed -i 's/^root default capabilities.*/root default capabilities = no/' "$prefix/usr/etc/apptainer/apptainer.conf"
"$prefix/usr/bin/apptainer" --version || fail "$prefix/usr/bin/apptainer does not start; libraries that it misses:" \
  "$(ldd "$prefix/usr/bin/apptainer" 2>&1 | grep 'not found' || true)"
