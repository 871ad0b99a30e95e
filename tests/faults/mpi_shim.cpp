// Tests preload this library into a program (LD_PRELOAD). If PASTUR_FAULT_MPI_THREADS is set, MPI grants no
// support for threads.
#include <dlfcn.h>

#include <cstdlib>

extern "C" int MPI_Init_thread(int* argc, char*** argv, int required, int* provided) {
    using InitThread = int(int*, char***, int, int*);
    const auto next = reinterpret_cast<InitThread*>(dlsym(RTLD_NEXT, "MPI_Init_thread"));
    const int status = next(argc, argv, required, provided);
    constexpr int kThreadSingle = 0;  // MPI_THREAD_SINGLE of Open MPI and of MPICH
    if (std::getenv("PASTUR_FAULT_MPI_THREADS")) *provided = kThreadSingle;
    return status;
}
