// Two threads of one core share its vector units, so linears gain nothing from the second: count cores, not threads.
#include "cores.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace hokku {
namespace {

std::string counted(int count, const char* noun) { return std::to_string(count) + " " + noun + (count == 1 ? "" : "s"); }

#if defined(__linux__)

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Each core is named by the list of its hardware threads; a CPU without that file counts as a core of its own.
int allowed_cores() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 0;
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    const std::string name = "/sys/devices/system/cpu/cpu" + std::to_string(cpu);
    const std::string siblings = first_line(name + "/topology/thread_siblings_list");
    cores.insert(siblings.empty() ? name : siblings);
  }
  return static_cast<int>(cores.size());
}

// "max 100000" or "150000 100000": quota and period in microseconds (Linux, Documentation/admin-guide/cgroup-v2.rst).
std::optional<double> cpus_of_v2(const std::string& line) {
  std::istringstream words(line);
  double quota = 0, period = 0;
  if (words >> quota >> period && quota > 0 && period > 0) return quota / period;
  return std::nullopt;
}

std::optional<double> cpus_of_v1(const std::string& folder) {
  return cpus_of_v2(first_line(folder + "/cpu.cfs_quota_us") + " " + first_line(folder + "/cpu.cfs_period_us"));
}

// The tightest quota of the process's control group and the groups around it.
std::optional<double> quota_cpus() {
  std::optional<double> least;
  const auto consider = [&](std::optional<double> cpus) {
    if (cpus && (!least || *cpus < *least)) least = cpus;
  };
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.rfind("0::", 0) != 0) continue;
    for (std::string path = line.substr(3); !path.empty(); path.resize(path.find_last_of('/'))) {
      consider(cpus_of_v2(first_line("/sys/fs/cgroup" + path + "/cpu.max")));
    }
  }
  consider(cpus_of_v2(first_line("/sys/fs/cgroup/cpu.max")));
  consider(cpus_of_v1("/sys/fs/cgroup/cpu"));
  return least;
}

#else

int allowed_cores() { return 0; }
std::optional<double> quota_cpus() { return std::nullopt; }

#endif

}  // namespace

ThreadChoice default_threads() {
  const int cores = allowed_cores();
  if (cores == 0) {
    const int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    return {threads, counted(threads, "hardware thread")};
  }
  const std::optional<double> quota = quota_cpus();
  const int whole = quota ? std::max(1, static_cast<int>(std::floor(*quota))) : cores;
  if (whole >= cores) return {cores, counted(cores, "physical core")};
  return {whole, "a cgroup quota of " + counted(whole, "CPU") + " on " + counted(cores, "physical core")};
}

}  // namespace hokku
