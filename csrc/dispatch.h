// Which kernel table this process uses, and why.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels.h"

namespace hokku {

struct Choice {
  const KernelTable* table;
  std::string reason;  // one clause for people: "the widest this CPU has", "HOKKU_ISA=avx2"
};

// The CPU's features that matter here, by their usual names.
std::vector<std::string> cpu_features();

// Paths this machine can run, widest first; stand-ins that are only ever chosen by name come last.
std::vector<const KernelTable*> available_tables();

// The table called `name`; when empty the one HOKKU_ISA names; when that is unset or empty too, the widest.
// Throws std::invalid_argument, saying what the machine lacks, when the named one is unknown or cannot run here.
Choice choose_table(std::string_view name);

}  // namespace hokku
