"""What `--help` prints: plain text, so that it shows at once, without loading a config or a part."""

from __future__ import annotations

OVERVIEW = """\
Text to video from interchangeable parts.

  videogen generate "a red circle moving right"    a video, and a contact sheet beside it
  videogen reconstruct input=clip.mp4              a clip through the VAE: PSNR, SSIM, side by side; weights= takes
                                                   published files and folders too
  videogen train train=shapes_dit                  train a VAE or a denoiser; goes on where it was killed
  videogen evaluate task=image_to_video             measure a model
  videogen list [kind] [pattern]                   the parts there are
  videogen show <kind> <name>                      one part: knobs, defaults, origin
  videogen show model <preset>                     one model: size, operations, memory
  videogen profile <preset> height=720 width=1280  the same at another size; a model of any size, in seconds
  videogen ablate dit.mlp=gelu,swiglu              several choices side by side in one table

Settings are key=value: vae=causal3d chooses a part, vae.latent_channels=8 sets a knob of it.
  videogen <command> --help    its settings
  -m, --multirun               one run for each combination: -m scheduler=ddim,rectified_flow
  --                           what follows is no option, not even with a dash in front
  --debug                      where an error came from
  --version                    which version this is"""

_MODEL = """
The model:
  model=shapes              a preset, or the folder of a checkpoint
  experiment=file.yaml      parts and settings from a file
  weights=shapes            a checkpoint's folder, or weights that ship; null for random ones
  vae.memory_budget=4GiB    encode and decode in chunks and tiles that fit; says which
  vae= denoiser= dit.block= text= objective= scheduler= guide= task= initial_noise= attention= fused=
                            another part in that place, see `videogen list`; its knobs as vae.<knob>=value"""

# of the commands that build a VAE alone
_PUBLISHED = """
A published VAE, its authors' file or diffusers' folder, by its preset (model=*_vae):
  model=wan2_1_vae weights=Wan2.1_VAE.pth"""

_WHERE = """
Where:
  device=auto               a graphics card if there is one, else the CPU; cpu, cuda, cuda:1"""

_PRECISE = """
  precision=float32         of the denoiser's and the encoders' weights: bfloat16, float16"""

_SAMPLING = """
Sampling:
  num_frames= height= width=    length and size; steps= of the scheduler; fps= of the file
  guidance=                     how strongly the sentence is followed, 1 for not at all; guide=apg, interval, … how
  guidance_rescale=             0 to 1, tames the contrast of strong guidance
  embedded_guidance=            scale that a distilled model is told, mostly with guidance=1
  condition_fps=                the frame rate that a model is told, where it takes one
  clean_frames=                 which frames the model was trained to take as they are: none, first, any
  blank=                        what unknown frames show to a model that takes images: gray, black, zeros, repeat
  negative_prompt=              what to lead away from
Longer than trained:
  window= window_overlap=       frames that the model sees at once, 0 for all, and how many two windows have in common
  window_of=                    what sees windows: network, or attention, that along time alone of factorised models
  initial_noise=                what a film begins as: independent, freenoise (that of one window again), …
  free_init=                    rounds more, each from the low frequencies of the film before; what those are is said by
                                free_init_filter= (butterworth, gaussian, ideal, box), free_init_space= and
                                free_init_time= (0 to 1)"""

USAGE = {
    "generate": f"""\
videogen generate "<sentence>" [key=value ...]

The sentence is taken as it stands, whatever its punctuation; prompt=<sentence> is the same.
  prompts=file.txt    one sentence a line
  image=first.png     a picture to begin with, and last_image= to end with, for a model that takes some
  task=               what else a film is made from: image_to_video, extend, loop, connect, edit, inpaint, outpaint,
                      interpolate, text_to_image; its knobs as task.<knob>=value, see `videogen list task`
  video=film.mp4      the film that it goes on from, other= a second one, and mask=mask.png, white where it is made anew
  output=film.mp4     where to; without it, a name made from sentence and seed
  seed=0              equal seeds give equal videos
  batch_size=4        videos made at once
{_SAMPLING}
{_MODEL}
{_WHERE}{_PRECISE}""",
    "reconstruct": f"""\
videogen reconstruct input=clip.mp4 [key=value ...]

  input=clip.mp4      any video file, or an image (PNG, JPEG), which is a clip of one frame
  output=pair.mp4     original and reconstruction side by side, and a contact sheet pair.png; without it, a name made
                      from the input's. Of an image, the sheet is the pair itself, without loss
  width= height=      scale to cover this size and crop from the centre; without them, the size of the file
  start=0             seconds to leave out first
  seconds= or num_frames=
                      how much to take; without them, all
  chunk=16            frames at a time: a long film takes no more memory than a short one
{_MODEL}
{_WHERE}
{_PUBLISHED}""",
    "train": f"""\
videogen train train=<preset> [key=value ...]

  train=shapes_dit    a preset: shapes_vae, shapes_text, shapes_dit, ...
  train.output=       folder of the run; a run found there is resumed
  train.steps= train.batch_size= train.learning_rate= train.part= ...
  data=shapes         the dataset, its knobs as data.<knob>=value
Weights are random unless model=<folder> or weights=<folder> says otherwise.
{_MODEL}
{_WHERE}""",
    "evaluate": f"""\
videogen evaluate [measure=task|reconstruction] [key=value ...]

  measure=task           does the model do its task: does a film show what its held-out prompt says, attribute by
                         attribute; with another task=, what that one is about, on held-out clips (docs/tasks.md)
  measure=reconstruction
                         PSNR and SSIM of the clips in a folder
  samples=               how many: 200 unless told otherwise, 100 of tasks other than text_to_video; seed=0 of the first
  batch_size=8           videos made at once
  input=folder           of the clips, for measure=reconstruction; split=test of its metadata.jsonl, if it has one
  output=result.json     the numbers
{_SAMPLING}
{_MODEL}
{_WHERE}{_PRECISE}
{_PUBLISHED} measure=reconstruction input=folder""",
    "profile": f"""\
videogen profile <preset> [key=value ...]

Parameters, operations and memory of a model, found without allocating it, so that one of any size is told in seconds.
  <preset>            a preset or the folder of a checkpoint; model=<preset> is the same
  num_frames= height= width=    of the clips; without them, the model's own
  batch_size=1        clips at once; with guidance= other than 1 a step takes two sequences a clip
  text_tokens=        length of a sentence; without it, the longest that the encoder takes
{_MODEL}""",
    "ablate": f"""\
videogen ablate key=a,b [key=c,d ...] [key=value ...]

Compares every combination in one table: parameters, operations, seconds a denoising step, memory. A combination whose
parts don't go together is listed with the reason.
  output=ablation     ablation.md, ablation.json and ablation.png
  rounds=7            samples of each step's time, taken in turns
  num_frames= height= width= guidance= batch_size= text_tokens=    as in profile
  train=<preset> or train.steps=    train each first: its loss; runs go to train.output=, one folder each
  samples=            videos of held-out prompts, each trained as above or with weights=: adherence; steps= of the
                      scheduler, seed=0 of the first
{_MODEL}
{_WHERE}""",
    "list": "videogen list [kind] [pattern] [--markdown], e.g. videogen list vae 'w*'",
    "show": "videogen show <kind> <name>, e.g. videogen show vae wavelet; videogen show model <preset>",
}
