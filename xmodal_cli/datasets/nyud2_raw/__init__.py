"""NYU Depth v2, raw video: what the Kinect wrote, scene by scene, becomes pairs of colour and registered depth."""
