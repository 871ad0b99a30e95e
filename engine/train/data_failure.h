#pragma once
// Data that cannot be read while a run uses it.
#include <exception>
#include <string>

#include "kernels/base/error.h"

namespace pastur {

/// A rank could not read the data of the next step or of a validation. All ranks throw it between the same two
/// steps, so a checkpoint can be written.
class DataFailure : public Error {
  public:
    /// what: why; empty on ranks that read their own data.
    using Error::Error;
};

/// The failure as a number for Comm::all_reduce_max(), larger than 1; 0 for none.
int failure_status(const std::exception_ptr& failure);

/// Throws the DataFailure that the ranks have agreed on. status: the largest failure_status() of any rank;
/// here: the failure of this one, if there is one.
[[noreturn]] void fail_data(int status, const std::exception_ptr& here);

}  // namespace pastur
