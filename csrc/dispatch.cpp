// Feature detection, compiled without any special flag so that it runs everywhere.
#include "dispatch.h"

#include <cstdlib>
#include <stdexcept>

#include "isa/tables.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace hokku {
namespace {

// One path, whether it runs here, and the feature whose absence stops it.
struct Path {
  const KernelTable* table;
  std::string missing;  // empty: it runs
  bool only_by_name;
};

#if defined(__x86_64__)

struct Feature {
  const char* name;
  bool present;
};

// AMX bits of CPUID leaf 7, EDX (Intel SDM volume 2A, CPUID); the compiler's own test is younger than g++ 12.
bool cpu_has_amx() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  constexpr unsigned bf16 = 1u << 22, tile = 1u << 24, int8 = 1u << 25;
  return (edx & (bf16 | tile | int8)) == (bf16 | tile | int8);
}

// Tile registers are the process's only after asking the kernel for them, once
// (Documentation/arch/x86/xstate.rst): ARCH_REQ_XCOMP_PERM for XFEATURE_XTILEDATA.
bool tiles_permitted() {
#if defined(__linux__)
  static const bool permitted = syscall(SYS_arch_prctl, 0x1023, 18) == 0;
  return permitted;
#else
  return false;
#endif
}

std::vector<Feature> features() {
  return {
      {"avx2", __builtin_cpu_supports("avx2") != 0},
      {"fma", __builtin_cpu_supports("fma") != 0},
      {"f16c", __builtin_cpu_supports("f16c") != 0},
      {"avxvnni", __builtin_cpu_supports("avxvnni") != 0},
      {"avx512f", __builtin_cpu_supports("avx512f") != 0},
      {"avx512bw", __builtin_cpu_supports("avx512bw") != 0},
      {"avx512dq", __builtin_cpu_supports("avx512dq") != 0},
      {"avx512vl", __builtin_cpu_supports("avx512vl") != 0},
      {"avx512vnni", __builtin_cpu_supports("avx512vnni") != 0},
      {"avx512bf16", __builtin_cpu_supports("avx512bf16") != 0},
      {"amx", cpu_has_amx()},
  };
}

// Names of those of `wanted` that this CPU lacks, or nothing.
std::string lacking(const std::vector<std::string_view>& wanted) {
  std::string missing;
  for (const Feature& feature : features()) {
    for (std::string_view name : wanted) {
      if (name == feature.name && !feature.present) missing += (missing.empty() ? "" : ", ") + std::string(name);
    }
  }
  return missing;
}

std::string joined(const std::string& some, const std::string& others) {
  return some.empty() || others.empty() ? some + others : some + ", " + others;
}

std::vector<Path> paths() {
  const std::string avx2 = lacking({"avx2", "fma", "f16c"});
  const std::string avxvnni = lacking({"avx2", "fma", "f16c", "avxvnni"});
  const std::string avx512 = lacking({"fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"});
  const std::string avx512_bf16 = joined(avx512, lacking({"avx512bf16"}));
  std::string amx = joined(avx512_bf16, lacking({"amx"}));
  if (amx.empty() && !tiles_permitted()) amx = "the operating system's permission to use AMX tiles";
  return {
      {&amx_table, amx, false},
      {&avx512_bf16_table, avx512_bf16, false},
      {&avx512_table, avx512, false},
      {&avxvnni_table, avxvnni, false},
      {&avx2_table, avx2, false},
      {&portable_table, "", false},
      {&amx_emulated_table, avx512_bf16, true},
  };
}

#else

#if defined(__aarch64__)
std::vector<Path> paths() { return {{&neon_table, "", false}, {&portable_table, "", false}}; }
#else
std::vector<Path> paths() { return {{&portable_table, "", false}}; }
#endif

#endif

Choice choose_named(const std::string& name, const std::string& asked_by) {
  std::string known;
  for (const Path& path : paths()) {
    if (name == path.table->name) {
      if (path.missing.empty()) return {path.table, asked_by};
      throw std::invalid_argument(asked_by + ": this machine lacks " + path.missing);
    }
    known += (known.empty() ? "" : ", ") + std::string(path.table->name);
  }
  throw std::invalid_argument(asked_by + ": no such kernel path; there are " + known);
}

}  // namespace

std::vector<std::string> cpu_features() {
  std::vector<std::string> present;
#if defined(__x86_64__)
  for (const Feature& feature : features()) {
    if (feature.present) present.emplace_back(feature.name);
  }
#elif defined(__aarch64__)
  present.emplace_back("neon");
#endif
  return present;
}

std::vector<const KernelTable*> available_tables() {
  std::vector<const KernelTable*> tables;
  for (const Path& path : paths()) {
    if (path.missing.empty()) tables.push_back(path.table);
  }
  return tables;
}

Choice choose_table(std::string_view name) {
  if (!name.empty()) return choose_named(std::string(name), "isa=" + std::string(name));
  const char* variable = std::getenv("HOKKU_ISA");
  if (variable != nullptr && *variable != '\0' && std::string_view(variable) != "auto") {
    return choose_named(variable, "HOKKU_ISA=" + std::string(variable));
  }
  std::string wider;
  for (const Path& path : paths()) {
    if (!path.only_by_name && path.missing.empty()) {
      return {path.table, "the widest this machine runs" + (wider.empty() ? "" : " (" + wider + ")")};
    }
    if (!path.only_by_name) wider += (wider.empty() ? "" : "; ") + std::string(path.table->name) + " needs " + path.missing;
  }
  return {&portable_table, "always there"};
}

}  // namespace hokku
