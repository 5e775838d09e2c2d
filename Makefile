# A thin front on the CMake presets. Each target says what it does in `make help`.
.DEFAULT_GOAL := help
presets := clang asan tsan posix musl
prefix ?= /usr/local
seconds ?= 60

.PHONY: help setup build run test dev $(presets) stress fuzz world bench faults install docs format tidy clean

help: ## this list
	@echo "allot: a malloc. Start with: make run"
	@awk -F':.*## ' '/^[a-z$$(). ]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what building and testing needs (Debian packages)
	@scripts/setup build

build: setup ## build the release into build/release
	@scripts/build release

run: ## a real program on its own allocator and on allot, side by side
	@scripts/setup build run && scripts/build release && scripts/run build/release

test: ## build everything in every way, run every quick test
	@scripts/setup build test && scripts/test release $(presets)

dev: ## build with all assertions, run the quick tests: for the one who edits
	@scripts/test dev

clang: ## build and test with clang
asan: ## the same with the address and undefined-behaviour sanitizers
tsan: ## the same with the thread sanitizer
posix: ## the same on os/posix.c, the way for BSD and macOS
musl: ## the same against musl
$(presets):
	@scripts/setup build test && scripts/test $@

stress: ## the long tests
	@scripts/setup build test && scripts/build release && ctest --test-dir build/release -L '^slow$$' -LE '^world$$' --output-on-failure

fuzz: ## search for breaking inputs, seconds=60 for each target
	@scripts/setup build test fuzz && scripts/build fuzz && scripts/fuzz $(seconds)

world: ## real programs on allot, the long ones too
	@scripts/setup build test world && scripts/build release && ctest --test-dir build/release -L '^(world|programs)$$' --output-on-failure

bench: ## measure against other allocators; writes a file below bench/results
	@scripts/setup build bench && scripts/build release && bench/run build/release

faults: ## hold allot and other tools against the corpus of faults; writes docs/FAULTS.md
	@scripts/setup build bench && scripts/build release && bench/faults

install: build ## install the release below prefix=/usr/local
	@cmake --install build/release --prefix $(prefix)

package: build ## what install installs, as a Debian package and an archive below build/release/packages
	@cpack --config build/release/CPackConfig.cmake -B build/release/packages | sed -n 's/^CPack: - package: \(.*\) generated.*/\1/p'

docs: build ## write the pages of docs/ that are made from the source
	@build/release/tests/repo/options_table >docs/options.md && scripts/calls >docs/calls.md

format: ## format the C files as .clang-format says
	@scripts/setup style && git ls-files '*.c' '*.h' '*.cc' | xargs clang-format-14 -i

tidy: ## look for what .clang-tidy names
	@scripts/setup build test style && scripts/build clang && git ls-files 'src/*.c' | xargs clang-tidy-14 -p build/clang --quiet

clean: ## remove everything that was built
	rm -rf build
