import keras
import numpy as np
import pytest

from synthmed.errors import UserError
from synthmed.evaluation.networks import BackboneFeatures, feature_space, weights_hash
from synthmed.models.unet import UNet


def backbone(channels=3, size=(None, None), pooled=True):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((*size, channels))
    x = keras.layers.Conv2D(5, 3, activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x) if pooled else x)


def images(channels=2, count=40, side=16):
    return np.random.default_rng(0).uniform(-1, 1, (count, side, side, channels)).astype(np.float32)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_backbone_from_a_file_sees_each_channel_by_itself(tmp_path, suffix):
    """Multi-channel slices could not be shown to a network for photographs, or not as the report says."""
    model = backbone(size=(16, 16))
    model.save(tmp_path / f"net.{suffix}")
    space = feature_space(f"keras:{tmp_path / f'net.{suffix}'}")
    space.fit(images())
    each = [model(np.repeat(images()[..., [channel]], 3, axis=3)).numpy() for channel in range(2)]
    assert space(images()) == pytest.approx(np.mean(each, axis=0), abs=1e-5)
    assert space.dimension == 5 and "mean over channels" in space.name
    assert space.identity == weights_hash(model)


def test_feature_maps_are_averaged_sizes_are_matched_and_channels_may_be_taken_together():
    """Backbones without a pooling layer, or for the user's own channels, could not be used."""
    maps = BackboneFeatures(backbone(pooled=False, size=(20, 24)), name="maps")
    assert maps(images()).shape == (40, 5)
    model = backbone(channels=2, size=(16, 16))
    together = BackboneFeatures(model, name="own")
    assert together(images()) == pytest.approx(model(images()).numpy(), abs=1e-5)
    with pytest.raises(UserError, match="takes 2 channels and the slices have 4"):
        together(images(channels=4))


def test_code_in_a_file_is_refused_before_anything_is_built(tmp_path):
    """A downloaded backbone could run code on the user's machine."""
    inputs = keras.Input((8, 8, 3))
    inner = keras.Sequential([keras.layers.Lambda(lambda x: x + 1)])
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inner(inputs)))
    for name in ("bad.keras", "bad.h5"):
        model.save(tmp_path / name)
        with pytest.raises(UserError, match="Lambda"):
            feature_space(f"keras:{tmp_path / name}")


def test_files_that_are_no_models_are_told_in_one_line(tmp_path):
    """A user would see a traceback of Keras."""
    (tmp_path / "broken.keras").write_bytes(b"nothing")
    (tmp_path / "broken.h5").write_bytes(b"nothing")
    backbone().save_weights(tmp_path / "alone.weights.h5")
    named = {
        "broken.keras": "damaged",
        "broken.h5": "damaged",
        "alone.weights.h5": "weights alone",
        "no.keras": "no .k",
    }
    for name, words in named.items():
        with pytest.raises(UserError, match=words) as error:
            feature_space(f"keras:{tmp_path / name}")
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="network from"):
        BackboneFeatures(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), name="dense")


def test_inception_is_never_fetched_unasked_and_a_wrong_file_is_refused(tmp_path, monkeypatch):
    """A hospital's machine would open a connection that nobody asked for."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(UserError, match="--download"):
        feature_space("inception")
    with pytest.raises(UserError, match="inception:FILE"):
        feature_space(f"inception:{tmp_path / 'none.h5'}")


@pytest.mark.slow
def test_inception_from_a_file_has_2048_features(tmp_path):
    """The feature space that most papers report could not be had without a connection."""
    model = keras.applications.InceptionV3(include_top=False, weights=None, pooling="avg")
    model.save_weights(tmp_path / "inception.weights.h5")
    space = feature_space(f"inception:{tmp_path / 'inception.weights.h5'}")
    assert space.dimension == 2048 and space.identity == weights_hash(model)
    assert space(images(count=2)).shape == (2, 2048)
    backbone().save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(UserError, match="does not hold InceptionV3"):
        feature_space(f"inception:{tmp_path / 'other.weights.h5'}")


@pytest.mark.parametrize("context", [0, 1])
def test_the_encoder_of_a_unet_gives_means_and_deviations_of_its_levels(context):
    """Features that know the organ would not be those of the network that was trained."""
    keras.utils.set_random_seed(0)
    network = UNet(3, width=4, levels=3, context=context)
    network.build((None, 18, 16, 2 * (2 * context + 1)))
    space = feature_space("unet:runs/7", load_unet=lambda path: network)
    assert space.name == "encoder of the U-Net 7" and space.dimension == 0
    slices = np.random.default_rng(0).uniform(-1, 1, (90, 18, 16, 2)).astype(np.float32)
    with pytest.raises(RuntimeError, match="fit"):
        space(slices)
    space.fit(slices)
    # Means and deviations of 4 + 8 + 16 channels, fewer than the 64 that would be kept.
    assert space.dimension == 56 and space(slices[:3]).shape == (3, 56)
    assert space(slices)[:3] == pytest.approx(space(slices[:3]), abs=1e-3)
    lowest = network.features(np.tile(slices[:3], (1, 1, 1, 2 * context + 1))[:, :16])[-1].numpy()
    assert space._raw(slices[:3, :16])[:, 24:40] == pytest.approx(lowest.mean(axis=(1, 2)), abs=1e-4)
    with pytest.raises(UserError, match="not available"):
        feature_space("unet:runs/7")


@pytest.mark.parametrize("spec", ["", "vgg", "offline:x", "keras", "keras:", "unet:", "inception:"])
def test_unknown_spaces_are_refused_with_the_list_of_known_ones(spec):
    """A typing error would give figures of another space."""
    with pytest.raises(UserError, match="unet:RUN"):
        feature_space(spec)
