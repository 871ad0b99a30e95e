#include "tools/pastur/early_start.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>

#include "engine/train/stop_request.h"

extern char** environ;

namespace pastur {
namespace {

/// Replaces one entry of the environment while libraries start. The C library ignores what setenv() did before its
/// own start, and the array has no room for another entry.
char blas_threads[] = "OPENBLAS_NUM_THREADS=1";
char* replaced = nullptr;

void set_blas_threads(char** environment) {
    // No library reads the other variables when it starts.
    for (const char* name : {"OPENBLAS_NUM_THREADS=", "_=", "OLDPWD=", "SHLVL=", "PWD="})
        for (char** entry = environment; *entry; ++entry)
            if (std::strncmp(*entry, name, std::strlen(name)) == 0) {
                replaced = *entry;
                *entry = blas_threads;
                return;
            }
}

void open_standard_descriptors() {
    for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; ++descriptor)
        // open(2) returns the lowest descriptor that is free.
        if (::fcntl(descriptor, F_GETFD) < 0 && ::open("/dev/null", O_RDWR) != descriptor) std::_Exit(74);
}

void start_early(int argc, char** argv, char** environment) {
    open_standard_descriptors();
    std::signal(SIGXFSZ, SIG_IGN);
    if (argc > 1 && std::strcmp(argv[1], "train") == 0) install_signal_handlers();
    set_blas_threads(environment);
}

/// Functions in this section run before the constructors of shared libraries; constructors of this program, which
/// run after those, would be too late.
[[gnu::section(".preinit_array"), gnu::used]] void (*const kStartEarly)(int, char**, char**) = start_early;

}  // namespace

void finish_early_start() {
    for (char** entry = environ; entry && *entry; ++entry)
        if (*entry == blas_threads) *entry = replaced;
}

}  // namespace pastur
