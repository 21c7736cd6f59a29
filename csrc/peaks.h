// The ceilings of this machine, measured: what `hokku bench` and `hokku doctor` hold results against.
#pragma once

#include "kernels.h"
#include "threads.h"

namespace hokku {

struct Peaks {
  double read_gb_per_s;  // streamed from memory, far beyond the caches
  double int8_tops;      // the path's own int8 linear on operands in the first-level cache
  double fma_tflops;     // float multiply-adds in registers
};

// All workers of the pool together, each of the three for about a third of `seconds`.
Peaks measure_peaks(ThreadPool& threads, const KernelTable& table, double seconds);

}  // namespace hokku
