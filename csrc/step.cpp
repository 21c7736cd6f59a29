// The border of a step: every index is looked at once, so that no loop behind it has to.
#include <cmath>
#include <stdexcept>
#include <string>

#include "program.h"

namespace hokku {
namespace {

void require(bool holds, const char* name, const char* why) {
  if (!holds) throw std::invalid_argument(std::string(name) + ": " + why);
}

// Whether any of the first `vocabulary` bits is set.
bool any_allowed(const uint32_t* bits, int64_t vocabulary) {
  for (int64_t word = 0; word < vocabulary / 32; ++word) {
    if (bits[word] != 0) return true;
  }
  return vocabulary % 32 != 0 && (bits[vocabulary / 32] & ((1u << (vocabulary % 32)) - 1u)) != 0;
}

}  // namespace

void Program::check(const Step& step) const {
  require(step.rows > 0, "tokens", "a step has at least one");
  require(step.rows <= max_rows_, "tokens", "more than max_rows");
  require(step.logit_rows <= max_logit_rows_, "logit_index", "more than max_logit_rows");
  check_tokens(step);
  for (int64_t r = 0; r < step.logit_rows; ++r) {
    require(step.logit_index[r] >= 0 && step.logit_index[r] <= step.rows - most_joined_rows_, "logit_index",
            "a row outside the step");
  }
  check_sequences(step);
  check_rope_positions(step);
  require(!has_windows_ || step.windows != nullptr, "windows", "attention of this program is over windows");
  if (step.windows != nullptr) check_sequences(*step.windows);
  if (vocabulary_ != 0) check_sampling(step);
}

void Program::check_tokens(const Step& step) const {
  require(step.num_features == 0 || feature_cols_ != 0, "features", "nothing in the recording takes them");
  require(!has_feature_rows_ || step.num_features == step.rows, "features", "must be as many as tokens");
  require(step.num_features == 0 || step.feature_cols == feature_cols_, "features",
          "has other columns than the rows it fills");
  for (int64_t row = 0; row < step.rows; ++row) {
    const int64_t token = step.tokens[row];
    require(token < num_embeddings_, "tokens", "an id outside the embedding table");
    require(token >= 0 || (!has_feature_rows_ && -1 - token < step.num_features), "tokens", "a row outside the features");
  }
}

void Program::check_sequences(const Step& step) const {
  require(step.sequences > 0, "row_start", "a step has at least one sequence");
  require(step.row_start[0] == 0, "row_start", "must begin with 0");
  require(step.row_start[step.sequences] == step.rows, "row_start", "must end with the number of tokens");
  const int64_t slots = step.page_table_stride * kPageTokens;
  for (int64_t s = 0; s < step.sequences; ++s) {
    const int64_t begin = step.row_start[s], end = step.row_start[s + 1];
    require(begin < end && end <= step.rows, "row_start", "every sequence needs at least one row");
    require(step.positions[begin] >= 0, "positions", "must not be negative");
    for (int64_t row = begin + 1; row < end; ++row) {
      require(step.positions[row] == step.positions[row - 1] + 1, "positions", "must be consecutive in a sequence");
    }
    const int64_t last = step.positions[end - 1];
    require(last < max_positions_, "positions", "beyond the rotary tables");
    require(last < slots, "page_table", "has too few pages for the positions");
    for (int64_t page = 0; page <= last / kPageTokens; ++page) {
      const int32_t id = step.page_table[s * step.page_table_stride + page];
      require(id >= 0 && id < pool_->view().pages, "page_table", "a page outside the pool");
    }
  }
}

void Program::check_rope_positions(const Step& step) const {
  if (step.rope_positions == nullptr) return;
  require(step.rope_axes == rope_axes_, "rope_positions", "have another number of axes than the recorded sections");
  for (int64_t i = 0; i < step.rows * step.rope_axes; ++i) {
    require(step.rope_positions[i] >= 0 && step.rope_positions[i] < max_positions_, "rope_positions",
            "outside the rotary tables");
  }
}

void Program::check_sampling(const Step& step) const {
  for (int64_t r = 0; r < step.logit_rows; ++r) {
    require(std::isfinite(step.temperature[r]) && step.temperature[r] >= 0, "temperature", "must be finite and not negative");
    require(step.top_p[r] >= 0 && step.top_p[r] <= 1, "top_p", "must be between 0 and 1");
    require(step.top_k[r] >= 0, "top_k", "must not be negative");
    require(step.allowed == nullptr || any_allowed(step.allowed + r * ((vocabulary_ + 31) / 32), vocabulary_), "allowed",
            "a row that allows no token");
  }
}

}  // namespace hokku
