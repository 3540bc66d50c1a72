#!/usr/bin/env python3
"""Tables and the coefficients that statsmodels and scikit-learn find for them: golden/tables.

Usage: make_table_goldens.py (needs scikit-learn and statsmodels; versions are noted in coefficients.json). The tests
need neither. Coefficients of a class are against the first class by name, where there are more than two.
"""
import json
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
import sklearn.datasets
import statsmodels
import statsmodels.api as sm
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

OUT = Path(__file__).parent / "tables"
CASES = []


def save(name, frame):
    OUT.mkdir(exist_ok=True)
    frame.to_csv(OUT / f"{name}.csv", index=False)


def add(table, target, model, by, coefficients, l2=0.0):
    CASES.append({"table": f"{table}.csv", "target": target, "model": model, "by": by, "l2": l2,
                  "coefficients": coefficients})


def named(columns, values, intercept, of=None):
    rows = [{"column": "(intercept)", "value": float(intercept)}]
    rows += [{"column": c, "value": float(v)} for c, v in zip(columns, values)]
    return [r | ({"class": of} if of else {}) for r in rows]


def ols(name, frame, target):
    save(name, frame)
    x = frame.drop(columns=[target])
    fit = sm.OLS(frame[target], sm.add_constant(x, has_constant="add")).fit()
    add(name, target, "linear", "statsmodels OLS", named(x.columns, fit.params.iloc[1:], fit.params.iloc[0]))


def logit(name, frame, target):
    save(name, frame)
    x = frame.drop(columns=[target])
    model = sm.Logit(frame[target], sm.add_constant(x))
    fit = model.fit(method="newton", maxiter=100, tol=1e-12, disp=0)
    assert np.abs(model.score(fit.params)).max() < 1e-6 * len(frame), name
    add(name, target, "logistic", "statsmodels Logit", named(x.columns, fit.params.iloc[1:], fit.params.iloc[0], "1"))


def mnlogit(name, frame, target):
    save(name, frame)
    x = frame.drop(columns=[target])
    model = sm.MNLogit(frame[target], sm.add_constant(x))
    fit = model.fit(method="newton", maxiter=100, tol=1e-12, disp=0)
    assert np.abs(model.score(np.asarray(fit.params).ravel(order="F"))).max() < 1e-6 * len(frame), name
    classes = sorted(frame[target].unique())
    rows = []
    for k, c in enumerate(classes[1:]):
        column = np.asarray(fit.params)[:, k]
        rows += named(x.columns, column[1:], column[0], str(c))
    add(name, target, "logistic", "statsmodels MNLogit", rows)


def standardised(x):
    return x.mean(), x.std(ddof=0)


def ridge(name, frame, target, l2):
    save(name, frame)
    x, y = frame.drop(columns=[target]), frame[target]
    mean, deviation = standardised(x)
    fit = Ridge(alpha=l2 * len(frame), solver="cholesky").fit((x - mean) / deviation, y)
    w = fit.coef_ / deviation
    add(name, target, "linear", "scikit-learn Ridge on standardised columns",
        named(x.columns, w, fit.intercept_ - (w * mean).sum()), l2)


def smallest(name, frame, target):
    """Fewer rows than columns: of all coefficients that fit best, those of the least sum of squares."""
    save(name, frame)
    x, y = frame.drop(columns=[target]), frame[target]
    mean, deviation = standardised(x)
    z = (x - mean) / deviation
    fit = LinearRegression().fit(z, y)
    assert np.allclose(fit.coef_, np.linalg.pinv(z, rcond=1e-10) @ (y - y.mean()), rtol=1e-9), name
    w = fit.coef_ / deviation
    add(name, target, "linear", "scikit-learn LinearRegression on standardised columns",
        named(x.columns, w, fit.intercept_ - (w * mean).sum()))


def penalised(name, frame, target, l2):
    """Logistic regression of two classes or more; scikit-learn's C is 1 / (rows * l2)."""
    save(name, frame)
    x, y = frame.drop(columns=[target]), frame[target]
    mean, deviation = standardised(x)
    fit = LogisticRegression(C=1 / (l2 * len(frame)), tol=1e-12, max_iter=100000).fit((x - mean) / deviation, y)
    rows = []
    for k, of in enumerate([fit.classes_[1]] if len(fit.classes_) == 2 else fit.classes_):
        w = fit.coef_[k] / deviation
        rows += named(x.columns, w, fit.intercept_[k] - (w * mean).sum(), of)
    add(name, target, "logistic", "scikit-learn LogisticRegression on standardised columns", rows, l2)


def with_names(loader):
    data = loader(as_frame=True)
    frame = data.frame.copy()
    frame["target"] = [str(data.target_names[i]) for i in frame["target"]]
    return frame


def main():
    load = lambda name: getattr(sm.datasets, name).load_pandas().data
    ols("longley", load("longley"), "TOTEMP")
    ols("stackloss", load("stackloss"), "STACKLOSS")
    ols("copper", load("copper"), "WORLDCONSUMPTION")
    ols("statecrime", load("statecrime"), "murder")
    diabetes = sklearn.datasets.load_diabetes(as_frame=True, scaled=False).frame
    ols("diabetes", diabetes, "target")
    ridge("diabetes", diabetes, "target", 0.1)
    wide = sklearn.datasets.load_breast_cancer(as_frame=True).data.head(13)
    again = wide.tail(1).assign(**{"worst area": lambda rows: rows["worst area"] - 100})  # a row with two targets
    wide = pd.concat([wide, again], ignore_index=True)
    smallest("breast_cancer_wide", wide, "worst area")
    ridge("breast_cancer_wide", wide, "worst area", 0.1)
    logit("spector", load("spector").astype({"PSI": int, "GRADE": int}), "GRADE")
    cancer = with_names(sklearn.datasets.load_breast_cancer)
    few = cancer[["mean radius", "mean texture", "mean smoothness", "target"]].copy()
    few["target"] = (few["target"] == "benign").astype(int)
    logit("breast_cancer_few", few, "target")
    anes = load("anes96")[["logpopul", "selfLR", "age", "educ", "income", "PID"]].astype({"PID": int})
    mnlogit("anes96", anes, "PID")
    means = [c for c in cancer.columns if c.startswith("mean ")] + ["target"]
    penalised("breast_cancer", cancer[means], "target", 0.01)
    penalised("iris", with_names(sklearn.datasets.load_iris), "target", 0.01)
    penalised("wine", with_names(sklearn.datasets.load_wine), "target", 0.01)
    with open(OUT / "coefficients.json", "w") as f:
        json.dump({"made_with": {"scikit-learn": sklearn.__version__, "statsmodels": statsmodels.__version__},
                   "cases": CASES}, f, indent=1)
        f.write("\n")


main()
