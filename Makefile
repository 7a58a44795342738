# Everything a developer runs.  Each target makes the virtual environment that
# it needs under .venv/ and builds into build/; nothing else is ever set up by
# hand.  The work is done by the scripts in tools/.
#
#   PYTHON=...       the interpreter (default: python3, or the newest found)
#   CC=...           the C compiler
#   PYTEST_ARGS=...  more arguments for pytest: PYTEST_ARGS='-k memo -x'
#   BENCH_ARGS=...   arguments for the benchmarks: BENCH_ARGS='--quick'
#   ENGINES=...      which engines: ENGINES='dask ray'
#   FUZZ_SECONDS=... how long each fuzz target runs; FUZZ_ARGS=... which
export PYTEST_ARGS BENCH_ARGS FUZZ_SECONDS FUZZ_ARGS

.PHONY: help run test test-all test-engines test-libraries asan valgrind tsan \
	coverage fuzz faults real-objects bench bench-pool lint format warnings docs \
	dist release-check clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' Makefile | \
	    awk -F@ '{ printf "%-18s %s\n", $$1, $$2 }'

run: ## the example: a script that plain Python refuses, run by fpickle
	@tools/run.sh

test: ## the test suite on one Python
	@tools/test.sh test

test-all: ## the test suite on every supported Python of this machine
	@tools/test_all.sh

test-engines: ## executors on Dask, Ray, MPI, Spark and loky, each in its environment
	@tools/test_engines.sh $(ENGINES)

test-libraries: ## fpickle in other libraries: joblib, Dask, PyTorch, ..., and docs/engines.md
	@tools/test_libraries.sh

asan: ## the test suite under the address and undefined behaviour sanitizers
	@tools/test.sh asan

valgrind: ## the tests that need no interpreter, under valgrind
	@tools/valgrind.sh

tsan: ## the transport of the pool under the thread sanitizer
	@tools/tsan.sh

coverage: ## the test suite, and which lines of the C core it runs
	@tools/coverage.sh

fuzz: ## the fuzz targets, FUZZ_SECONDS (60) each, with clang's libFuzzer
	@tools/fuzz.sh

faults: ## docs/faults.md: fpickle beside pickle and other pools on each fault row
	@tools/faults.sh

real-objects: ## docs/real-objects.md: objects of numpy, pandas, torch, ..., by each pickler
	@tools/real_objects.sh

bench: ## fpickle beside pickle, marshal, cloudpickle and dill
	@tools/bench.sh

bench-pool: ## fpickle's pools beside the standard ones, loky, mpire and multiprocess
	@tools/bench_pool.sh

lint: warnings ## warnings, and the laws of the rooms
	@PYTEST_ARGS="$(PYTEST_ARGS) -k test_laws" tools/test.sh test

format: ## clang-format over the C sources
	clang-format -i $$(find src -name '*.[ch]')

warnings: ## compile with gcc and with clang, every warning an error
	@tools/warnings.sh

docs: ## the documentation as a site, in build/docs
	@tools/docs.sh

dist: ## a reproducible source distribution and wheels, in dist
	@tools/dist.sh

release-check: ## every item of the check-list of a release
	@tools/release_check.sh

clean: ## remove what the other targets made
	rm -rf .venv build dist .cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
