#!/bin/sh
# Takes out of an environment what the lock brings and no run imports: the image stays small, and has less to be mended.
#
#   trim.sh PYTHON SITE_PACKAGES
#
# tests/test_image.py runs every part of the program on what is left.
set -eu
python=$1
cd "$2"

# hf-xet       faster downloads of gigabytes: a tokenizer has a few megabytes, which come over plain HTTP without it
# typer, …     the command line of transformers, and what only that needs
# pygments     colours for source code, which rich imports when it shows some
# dateparser … dates in words, which prometheus-api-client takes from those who give it some
pip --python "$python" uninstall --quiet --yes --root-user-action=ignore \
    hf-xet typer shellingham pydantic pydantic-core annotated-types annotated-doc typing-inspection pygments \
    dateparser python-dateutil pytz tzlocal tzdata

# The models' own code wants PyTorch, which is not here; of transformers a run needs the tokenizers. When it is imported,
# transformers looks which of these files it has.
find transformers/models -name '*.py' ! -name '__init__.py' ! -name 'tokenization_*' ! -name 'configuration_*' \
    ! -path 'transformers/models/auto/*' -delete

# The packages' tests, and what compilers and type checkers read.
find . -type d -name tests -prune -exec rm -r {} +
find . -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.h' -o -name '*.a' \) -delete
