// The module `hokku.kernels._native`: names, shapes and the interpreter lock. The arithmetic is elsewhere.
#include "bindings.h"

NB_MODULE(_native, m) {
  m.doc() = "Hokku's kernels. Use hokku.kernels, which checks dtypes and speaks in the words of kernels.program.";
  bind_machine(m);
  bind_weights(m);
  bind_program(m);
}
