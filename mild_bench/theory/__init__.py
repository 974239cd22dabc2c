"""The paper's two theorems, checked on an attention model small enough for its true Hessian."""
