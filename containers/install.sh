#!/bin/bash
# install.sh DEBIAN_PACKAGES LOCK...: what every recipe does in %post. Runs inside the image that is being built.
# Debian packages through apt, then a Python environment in /opt/entrobench from hash-locked files only.
# A lock named grader.lock goes into a folder of its own, as in workflow/scripts/setup.sh, and appworld.lock into an
# environment of its own. AppWorld's protected code stays in its encrypted bundle: it is unpacked where it runs.
set -euo pipefail
read -r -a debian <<< "$1"
shift
locks=/opt/requirements
environment=/opt/entrobench
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
# Package index and certificates of the machine that builds: bound in for the build, never part of the image
if [ -e /mnt/machine.env ]; then . /mnt/machine.env; fi
apt-get -o APT::Sandbox::User=root -qq update
apt-get -o APT::Sandbox::User=root -qq install -y --no-install-recommends "${debian[@]}"
apt-get clean

python3 -m venv "$environment"
"$environment/bin/pip" install --quiet --no-cache-dir --require-hashes --no-deps -r "$locks/build.lock"
export UV_CACHE_DIR=/opt/uv-cache UV_LINK_MODE=hardlink UV_HTTP_TIMEOUT=180 UV_NO_PROGRESS=1
python=$environment/bin/python
install() { "$environment/bin/uv" pip install --quiet --python "$python" --no-deps --no-build-isolation --require-hashes "$@"; }
for lock in "$@"; do
  echo "installing $lock"
  if [ "$lock" = appworld.lock ]; then
    python3 -m venv --without-pip /opt/appworld
    python=/opt/appworld/bin/python install -r "$locks/$lock"
  elif [ "$lock" = grader.lock ]; then
    install --target "$environment/grader-packages" -r "$locks/$lock"
  else
    install -r "$locks/$lock"
  fi
done
# The packages of CUDA's libraries lack the names that a linker asks for, and the folder where it looks for them
for home in "$environment"/lib/python3*/site-packages/nvidia/cu13; do
  [ -d "$home/lib" ] || continue
  ln -sfn lib "$home/lib64"
  for library in "$home"/lib/lib*.so.*; do
    name="${library%%.so.*}.so"
    [ -e "$name" ] || ln -s "${library##*/}" "$name"
  done
done
rm -r /opt/uv-cache
"$environment/bin/pip" uninstall --quiet --yes uv
# Compiled here, since the image is read-only when it runs; by content, so that two builds give the same files.
# Some packages ship files for other Pythons, which cannot be compiled.
also=""
[ ! -d /opt/appworld ] || also=/opt/appworld
"$environment/bin/python" -m compileall -q -j 2 --invalidation-mode unchecked-hash "$environment" $also > /dev/null || true
# The project's source is bound in when the image runs, so its command is a line
printf '#!/bin/sh\nexec /opt/entrobench/bin/python -m entrobench.cli "$@"\n' > "$environment/bin/entrobench"
chmod 755 "$environment/bin/entrobench"
