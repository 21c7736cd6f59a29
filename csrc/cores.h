// How many threads are worth starting on this machine for this process.
#pragma once

#include <string>

namespace hokku {

struct ThreadChoice {
  int num_threads;
  std::string reason;  // one clause for people: "2 physical cores"
};

// Physical cores that the process may run on, or fewer where a cgroup quota allows less processor time.
ThreadChoice default_threads();

}  // namespace hokku
