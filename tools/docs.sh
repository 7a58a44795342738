#!/bin/sh
# docs.sh -- the documentation as a site in build/docs (`make docs`).  Every
# warning is an error.
set -eu
cd "$(dirname "$0")/.."
python=$(tools/build.sh docs)
rm -rf build/docs build/docs-source build/docs-trees
"$python" tools/docs.py build/docs-source
"$python" -P -m sphinx --quiet --fail-on-warning --keep-going --jobs auto \
    -b html -c docs -d build/docs-trees build/docs-source build/docs
echo "build/docs/index.html: $(find build/docs -name '*.html' | wc -l) pages"
