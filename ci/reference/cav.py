"""Reference CAVs for src/explain/cav.rs: `python ci/reference/cav.py > fixtures/cav/logistic.json`.

Needs numpy, scikit-learn, mpmath. scikit-learn (newton-cholesky, tol 1e-14) gives the optimum of L2 logistic regression with a free
intercept in feature space; Newton steps with 40 digits make it exact. How far scikit-learn was from it is in the file: below 1e-6 except for the very huge
values, where it stalls.
"""
import json
import warnings

import mpmath as mp
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

mp.mp.dps = 40
warnings.simplefilter("ignore", ConvergenceWarning)


def polish(a, s, c, w, b):
    """Newton's method in feature space with 40 digits, halving steps that do not lower the objective."""
    n, d = a.shape
    rows = [[mp.mpf(float(v)) for v in row] + [mp.mpf(1)] for row in a]
    x = mp.matrix([float(v) for v in w] + [float(b)])
    decide = lambda x: [mp.fsum(v * x[j] for j, v in enumerate(row)) for row in rows]
    loss = lambda x: mp.fsum(x[j] ** 2 for j in range(d)) / 2 + c * mp.fsum(mp.log1p(mp.exp(-sign * f)) for sign, f in zip(s, decide(x)))
    for step in range(300):
        grad = mp.matrix([x[j] if j < d else mp.mpf(0) for j in range(d + 1)])
        hess = mp.matrix(d + 1, d + 1)
        for j in range(d):
            hess[j, j] = mp.mpf(1)
        for row, sign, f in zip(rows, s, decide(x)):
            p = 1 / (1 + mp.exp(sign * f))
            for j in range(d + 1):
                grad[j] -= c * sign * p * row[j]
                for k in range(d + 1):
                    hess[j, k] += c * p * (1 - p) * row[j] * row[k]
        delta = mp.lu_solve(hess, grad)
        if max(abs(v) for v in delta) < mp.mpf(10) ** -28 * max(abs(v) for v in x):
            return x
        here, length = loss(x), mp.mpf(1)
        while loss(x - length * delta) > here and length > mp.mpf(10) ** -12:
            length /= 2
        x -= length * delta
    raise SystemExit("no convergence")


def case(name, positive, negative, c):
    a = np.vstack([positive, negative]).astype(np.float32)
    s = np.array([1.0] * len(positive) + [-1.0] * len(negative))
    # scikit-learn sees centred, scaled data (the same problem after a change of variables): it stalls on the raw values of some cases.
    wide = a.astype(np.float64)
    mean, scale = wide.mean(0), wide.std()
    fit = LogisticRegression(C=c * scale**2, tol=1e-14, solver="newton-cholesky", max_iter=10000)
    fit.fit((wide - mean) / scale, s)
    w = fit.coef_[0] / scale
    b = fit.intercept_[0] - w @ mean
    exact = polish(a, s, c, w, b)
    d = a.shape[1]
    error = max(abs(float(exact[j]) - w[j]) for j in range(d)) / max(abs(w))
    assert error < 1e-6 or name == "very huge values", (name, error)
    rows = [[mp.mpf(float(v)) for v in row] for row in a]
    decision = [float(mp.fsum(v * exact[j] for j, v in enumerate(row)) + exact[d]) for row in rows]
    return {
        "name": name,
        "c": c,
        "features": d,
        "positive": len(positive),
        "activations": [float(v) for v in a.ravel()],
        "weight": [float(exact[j]) for j in range(d)],
        "intercept": float(exact[d]),
        "weight_norm": float(mp.sqrt(mp.fsum(exact[j] ** 2 for j in range(d)))),
        "decision_values": decision,
        "scikit_learn_relative_error": float(error),
    }


rng = np.random.default_rng(7)
draw = lambda n, d, shift=0.0: rng.normal(size=(n, d)) + shift
twice = draw(6, 5)
print(json.dumps({"cases": [
    case("overlapping", draw(12, 6, 0.4), draw(12, 6), 1.0),
    case("separable, more features than images", draw(8, 30, 0.5), draw(8, 30), 1.0),
    case("unbalanced, strong penalty", draw(4, 6, 1.0), draw(21, 6), 0.1),
    case("images repeated within and across sets, weak penalty", np.vstack([twice, twice[:3]]), np.vstack([twice[:4], draw(6, 5, 0.3)]), 10.0),
    case("huge values far from the origin", 3e2 * draw(8, 12) + 5e4, 3e2 * draw(8, 12) + 5e4, 1.0),
    case("very huge values", 1e8 * draw(8, 12, 0.2), 1e8 * draw(8, 12), 1.0),
    case("tiny values", 1e-4 * draw(10, 6, 0.5), 1e-4 * draw(10, 6), 1.0),
    case("two images a set", np.abs(draw(2, 9)), np.abs(draw(2, 9)), 1.0),
]}, indent=None))
