"""Models of scikit-learn through skl2onnx, against ONNX Runtime."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule.api.session import InferenceSession

ort = pytest.importorskip("onnxruntime")
skl2onnx = pytest.importorskip("skl2onnx")
pytest.importorskip("sklearn")

from sklearn import (  # noqa: E402
    calibration,
    cluster,
    compose,
    cross_decomposition,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_selection,
    gaussian_process,
    impute,
    linear_model,
    mixture,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    random_projection,
    svm,
    tree,
)

F = np.float32
FEATURES = 4

rng = np.random.default_rng(0)
X = rng.standard_normal((90, FEATURES)).astype(F)
Y = (X @ np.array([1, -2, 0.5, 0], F) + np.sin(3 * X[:, 3])).astype(F)
TWO = (Y > 0).astype(np.int64)
THREE = np.digitize(Y, [-1, 1])
NAMES = np.array(["low", "mid", "top"])[THREE]
SEVERAL = np.stack([Y, X[:, 0] * 2 - Y], 1)
WHOLE = rng.integers(0, 4, (90, FEATURES)).astype(np.int64)
HOLES = np.where(rng.random(X.shape) < 0.2, np.nan, X).astype(F)
COUNTS = np.abs(np.round(X * 3)).astype(F)
few = {"n_estimators": 4, "random_state": 0}
seed = {"random_state": 0}

Make = Callable[[], tuple[Any, Any, Any]]


def case(model: Any, x: Any = X, y: Any = None) -> Make:
    return lambda: (model, x, y)


CASES: dict[str, Make] = {
    # linear
    "linear": case(linear_model.LinearRegression(), X, Y),
    "linear, several targets": case(linear_model.LinearRegression(), X, SEVERAL),
    "linear, f64": case(linear_model.LinearRegression(), X.astype(np.float64), Y),
    "ridge": case(linear_model.Ridge(), X, Y),
    "ridge, cv": case(linear_model.RidgeCV(), X, Y),
    "lasso": case(linear_model.Lasso(0.01), X, Y),
    "lasso, lars": case(linear_model.LassoLars(0.01), X, Y),
    "elastic net": case(linear_model.ElasticNet(0.01), X, Y),
    "lars": case(linear_model.Lars(), X, Y),
    "orthogonal": case(linear_model.OrthogonalMatchingPursuit(), X, Y),
    "bayesian": case(linear_model.BayesianRidge(), X, Y),
    "ard": case(linear_model.ARDRegression(), X, Y),
    "huber": case(linear_model.HuberRegressor(), X, Y),
    "theil-sen": case(linear_model.TheilSenRegressor(**seed), X, Y),
    "ransac": case(linear_model.RANSACRegressor(**seed), X, Y),
    "sgd regressor": case(linear_model.SGDRegressor(**seed), X, Y),
    "poisson": case(linear_model.PoissonRegressor(), X, np.exp(Y / 2)),
    "gamma": case(linear_model.GammaRegressor(), X, np.exp(Y / 2)),
    "tweedie": case(linear_model.TweedieRegressor(), X, Y),
    "quantile": case(linear_model.QuantileRegressor(alpha=0.01), X, Y),
    "multi-task": case(linear_model.MultiTaskElasticNet(0.01), X, SEVERAL),
    "logistic": case(linear_model.LogisticRegression(), X, TWO),
    "logistic, three": case(linear_model.LogisticRegression(), X, THREE),
    "logistic, names": case(linear_model.LogisticRegression(), X, NAMES),
    "logistic, cv": case(linear_model.LogisticRegressionCV(cv=2), X, TWO),
    "perceptron": case(linear_model.Perceptron(**seed), X, THREE),
    "ridge classifier": case(linear_model.RidgeClassifier(), X, THREE),
    "sgd": case(linear_model.SGDClassifier(**seed), X, THREE),
    "sgd, log loss": case(linear_model.SGDClassifier(loss="log_loss", **seed), X, TWO),
    "lda": case(discriminant_analysis.LinearDiscriminantAnalysis(), X, THREE),
    "qda": case(discriminant_analysis.QuadraticDiscriminantAnalysis(), X, THREE),
    # support vectors
    "svr": case(svm.SVR(), X, Y),
    "svr, poly": case(svm.SVR(kernel="poly", coef0=1.0), X, Y),
    "nu-svr, sigmoid": case(svm.NuSVR(kernel="sigmoid"), X, Y),
    "linear svr": case(svm.LinearSVR(**seed), X, Y),
    "svc": case(svm.SVC(), X, TWO),
    "svc, three": case(svm.SVC(kernel="linear"), X, THREE),
    "svc, chances": case(svm.SVC(probability=True, **seed), X, THREE),
    "svc, chances of two": case(svm.SVC(probability=True, **seed), X, TWO),
    "nu-svc, names": case(svm.NuSVC(nu=0.2), X, NAMES),
    "linear svc": case(svm.LinearSVC(**seed), X, THREE),
    "one class": case(svm.OneClassSVM()),
    # trees
    "tree": case(tree.DecisionTreeClassifier(max_depth=4, **seed), X, THREE),
    "tree, names": case(tree.DecisionTreeClassifier(max_depth=4, **seed), X, NAMES),
    "tree regressor": case(tree.DecisionTreeRegressor(max_depth=4, **seed), X, Y),
    "tree, several targets": case(tree.DecisionTreeRegressor(max_depth=3, **seed), X, SEVERAL),
    "extra tree": case(tree.ExtraTreeClassifier(max_depth=4, **seed), X, TWO),
    "forest": case(ensemble.RandomForestClassifier(**few), X, THREE),
    "forest, two": case(ensemble.RandomForestClassifier(**few), X, TWO),
    "forest regressor": case(ensemble.RandomForestRegressor(**few), X, Y),
    "extra trees": case(ensemble.ExtraTreesClassifier(**few), X, NAMES),
    "extra trees regressor": case(ensemble.ExtraTreesRegressor(**few), X, Y),
    "boosting": case(ensemble.GradientBoostingClassifier(**few), X, TWO),
    "boosting, three": case(ensemble.GradientBoostingClassifier(**few), X, THREE),
    "boosting regressor": case(ensemble.GradientBoostingRegressor(**few), X, Y),
    "ada boost": case(ensemble.AdaBoostClassifier(**few), X, THREE),
    "ada boost regressor": case(ensemble.AdaBoostRegressor(**few), X, Y),
    "bagging": case(ensemble.BaggingClassifier(**few), X, TWO),
    "isolation": case(ensemble.IsolationForest(**few)),
    "voting": case(ensemble.VotingClassifier(
        [("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier(**seed))],
        voting="soft", flatten_transform=False), X, TWO),
    "stacking": case(ensemble.StackingRegressor(
        [("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=3, **seed))]),
        X, Y),
    # other models
    "neighbours": case(neighbors.KNeighborsClassifier(3), X, THREE),
    "neighbours, regressor": case(neighbors.KNeighborsRegressor(3), X, Y),
    "bayes": case(naive_bayes.GaussianNB(), X, THREE),
    "bayes, counts": case(naive_bayes.MultinomialNB(), COUNTS, THREE),
    "bayes, bits": case(naive_bayes.BernoulliNB(), X, TWO),
    "perceptrons": case(neural_network.MLPClassifier((5,), max_iter=50, **seed), X, THREE),
    "perceptrons, regressor": case(
        neural_network.MLPRegressor(hidden_layer_sizes=(5,), max_iter=50, **seed), X, Y),
    "gaussian process": case(gaussian_process.GaussianProcessRegressor(), X[:20], Y[:20]),
    "k-means": case(cluster.KMeans(3, n_init=1, **seed)),
    "mixture": case(mixture.GaussianMixture(2, **seed)),
    "one against the rest": case(
        multiclass.OneVsRestClassifier(linear_model.LogisticRegression()), X, THREE),
    "calibrated": case(
        calibration.CalibratedClassifierCV(linear_model.LogisticRegression(), cv=2), X, TWO),
    "several outputs": case(
        multioutput.MultiOutputRegressor(linear_model.Ridge()), X, SEVERAL),
    "pls": case(cross_decomposition.PLSRegression(2), X, Y),
    # features
    "standard scaler": case(preprocessing.StandardScaler()),
    "min-max scaler": case(preprocessing.MinMaxScaler()),
    "robust scaler": case(preprocessing.RobustScaler()),
    "max-abs scaler": case(preprocessing.MaxAbsScaler()),
    "normaliser, l1": case(preprocessing.Normalizer("l1")),
    "normaliser, l2": case(preprocessing.Normalizer("l2")),
    "normaliser, max": case(preprocessing.Normalizer("max")),
    "binariser": case(preprocessing.Binarizer(threshold=0.3)),
    "bins": case(preprocessing.KBinsDiscretizer(3, encode="ordinal", strategy="uniform")),
    "bins, one hot": case(preprocessing.KBinsDiscretizer(3, encode="onehot-dense")),
    "polynomials": case(preprocessing.PolynomialFeatures(2)),
    "power": case(preprocessing.PowerTransformer()),
    "one hot": case(preprocessing.OneHotEncoder(sparse_output=False), WHOLE),
    "one hot, strings": case(
        preprocessing.OneHotEncoder(sparse_output=False), NAMES.reshape(-1, 1).astype(object)),
    "ordinals": case(preprocessing.OrdinalEncoder(), WHOLE),
    "labels": case(preprocessing.LabelEncoder(), NAMES.astype(object)),
    "imputer": case(impute.SimpleImputer(), HOLES),
    "imputer, constant": case(impute.SimpleImputer(strategy="constant", fill_value=7.0), HOLES),
    "pca": case(decomposition.PCA(2)),
    "svd": case(decomposition.TruncatedSVD(2)),
    "kernel pca": case(decomposition.KernelPCA(2, kernel="rbf")),
    "projection": case(random_projection.GaussianRandomProjection(3, **seed)),
    "best features": case(feature_selection.SelectKBest(k=2), X, TWO),
    "varying features": case(feature_selection.VarianceThreshold(0.1)),
    "columns": case(compose.ColumnTransformer(
        [("s", preprocessing.StandardScaler(), [0, 1]), ("p", "passthrough", [2])])),
    "pipeline": case(pipeline.make_pipeline(
        preprocessing.StandardScaler(), decomposition.PCA(2), linear_model.LogisticRegression()),
        X, NAMES),
}  # fmt: skip


def converted(make: Make, **options: Any) -> tuple[Any, Any]:
    """(the model as ONNX, rows to try it on)."""
    model, x, y = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(*((x,) if y is None else (x, y)))
        opsets = {"": 18, "ai.onnx.ml": 3}
        return skl2onnx.to_onnx(model, x[:1], target_opset=opsets, **options), x[:23]


def expected(proto: Any, feed: dict[str, Any]) -> list[Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    out: list[Any] = session.run(None, feed)
    return out


def same(mine: Any, theirs: Any) -> None:
    """Equal labels and maps, scores up to roundings."""
    if isinstance(theirs, list):
        assert [list(row) for row in mine] == [list(row) for row in theirs]
        mine, theirs = (np.array([list(r.values()) for r in rows]) for rows in (mine, theirs))
    assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
    if theirs.dtype.kind == "f":
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("name", CASES)
def test_scikit_learn(name: str) -> None:
    proto, x = converted(CASES[name])
    feed = {proto.graph.input[0].name: x}
    session = InferenceSession(proto)
    for mine, theirs in zip(session.run(None, feed), expected(proto, feed), strict=True):
        same(mine, theirs)
